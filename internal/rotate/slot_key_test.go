package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// TestValuesOfAnUnknownKey: a server that returns NotFound for a value that is not a ciphertext
// does not stop the run. The slot fails with a separate reason, and all other slots move.
// DescribeKey is called once for the keys of the job.
func TestValuesOfAnUnknownKey(t *testing.T) {
	for _, code := range []string{"NotFoundException", "ResourceNotFoundException"} {
		for _, test := range []struct {
			name    string
			sources int
			any     bool
			to      fakekms.KeySpec
		}{
			{"one source", 1, false, fakekms.Symmetric},
			{"two sources", 2, false, fakekms.Symmetric},
			{"any source", 0, true, fakekms.Symmetric},
			{"to RSA", 1, false, fakekms.RSA2048},
		} {
			t.Run(code+" "+test.name, func(t *testing.T) {
				cloud := newCloud(t)
				request := reencrypt.KeyRequest{Destination: cloud.key(t, test.to), Any: test.any}
				if test.to != fakekms.Symmetric {
					request.DestinationAlgorithm = "RSAES_OAEP_SHA_256"
				}
				for range test.sources {
					request.Sources = append(request.Sources, cloud.key(t, fakekms.Symmetric))
				}
				source := append(request.Sources, cloud.key(t, fakekms.Symmetric))[0]
				target := newMemory()
				const moving, garbage = 20, 6
				for i := range moving {
					target.put(fmt.Sprintf("%02d", i), cloud.encrypt(t, source, "x", nil))
				}
				for i := range garbage {
					target.put(fmt.Sprintf("%02d.5", i), fmt.Appendf(nil, "no ciphertext, %d", i))
				}
				keys := cloud.resolve(t, request)
				cloud.fake.SetNoBlobCode(code)
				before := cloud.faults.Counts()["kms:DescribeKey"]
				b := &testPass{
					cloud:  cloud,
					keys:   keys,
					format: format(t, nil, nil),
					target: target,
					settle: 20 * time.Second,
				} // no slot must wait for this time
				began := time.Now()
				counts, err := b.run(t)
				want := checkpoint.SlotCounts{Seen: moving + garbage, Rotated: moving,
					Failed: garbage}
				if err != nil || counts.Slots != want ||
					counts.Reasons["failed/key-unknown"] != garbage {
					t.Errorf("%v: %+v, %v, want %+v", err, counts.Slots, counts.Reasons, want)
				}
				if n := cloud.faults.Counts()["kms:DescribeKey"] - before; n > 1+test.sources {
					t.Errorf("%d requests for the keys of the job", n)
				}
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}

// TestKeyErrorsThatStop: an error about a key stops the run if it is about a key of the job,
// or may be. No slot is marked failed.
func TestKeyErrorsThatStop(t *testing.T) {
	for name, fail := range keyErrors() {
		for _, sources := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d sources", name, sources), func(t *testing.T) {
				stopsForKey(t, sources, fail)
			})
		}
	}
}

// keySetup is a fake KMS with the keys of a job.
type keySetup struct {
	cloud    *cloud
	from, to string
}

// keyErrors returns changes that make KMS refuse requests because of a key of the job.
func keyErrors() map[string]func(*testing.T, keySetup) {
	type setup = keySetup
	refuse := func(code string) func(*testing.T, setup) {
		return func(_ *testing.T, s setup) {
			s.cloud.faults.Set("kms:ReEncrypt",
				fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{Code: code}})
		}
	}
	state := func(key func(setup) string, state fakekms.KeyState) func(*testing.T, setup) {
		return func(t *testing.T, s setup) {
			if err := s.cloud.fake.SetState(key(s), state); err != nil {
				t.Fatal(err)
			}
		}
	}
	from := func(s setup) string { return s.from }
	to := func(s setup) string { return s.to }
	return map[string]func(*testing.T, setup){
		"grant token":                  refuse("InvalidGrantTokenException"),
		"key usage":                    refuse("InvalidKeyUsageException"),
		"source disabled":              state(from, fakekms.Disabled),
		"source pending deletion":      state(from, fakekms.PendingDeletion),
		"destination disabled":         state(to, fakekms.Disabled),
		"destination pending deletion": state(to, fakekms.PendingDeletion),
		"source deleted": func(t *testing.T, s setup) {
			s.cloud.fake.SetNoBlobCode("NotFoundException")
			if err := s.cloud.fake.Delete(s.from); err != nil {
				t.Fatal(err)
			}
		},
		"destination deleted": func(t *testing.T, s setup) {
			if err := s.cloud.fake.Delete(s.to); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func stopsForKey(t *testing.T, sources int, fail func(*testing.T, keySetup)) {
	cloud := newCloud(t)
	s := keySetup{cloud, cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)}
	request := reencrypt.KeyRequest{Destination: s.to, Sources: []string{s.from}}
	if sources == 2 {
		request.Sources = append(request.Sources, cloud.key(t, fakekms.Symmetric))
	}
	target := newMemory()
	for i := range 10 {
		target.put(fmt.Sprint(i), cloud.encrypt(t, s.from, "x", nil))
	}
	keys := cloud.resolve(t, request)
	fail(t, s)
	b := &testPass{cloud: cloud, keys: keys, format: format(t, nil, nil), target: target}
	counts, err := b.run(t)
	var stop *retry.StopError
	if !errors.As(err, &stop) || stop.Kind != retry.StopAccess || counts.Slots.Failed > 0 {
		t.Errorf("%v: %+v, want a stop and no failed slot", err, counts.Slots)
	}
}

// TestObjectsUnderKeysOfTheirOwn: if the store has encrypted an item under a separate key that
// cannot be used, only this item fails. If no item can be read for this reason, the run stops.
func TestObjectsUnderKeysOfTheirOwn(t *testing.T) {
	for _, code := range []string{"KMS.DisabledException", "KMS.KMSInvalidStateException",
		"KMS.NotFoundException"} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all %v", code, all), func(t *testing.T) {
				cloud := newCloud(t)
				source, to := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
				target := newMemory()
				const items = 60
				for i := range items {
					target.put(fmt.Sprintf("%02d", i), cloud.encrypt(t, source, "x", nil))
				}
				lister := &refusing{memoryTarget: target, code: code, all: all}
				b := &testPass{cloud: cloud, format: format(t, nil, nil), target: target,
					settle: 20 * time.Second, // no item must wait for this time
					keys: cloud.resolve(t, reencrypt.KeyRequest{Destination: to,
						Sources: []string{source}})}
				counts, err := b.runOn(t, rotate.Target{Name: "target", Lister: lister,
					Writer: target, Format: b.format, Batch: 1})
				if all {
					var stop *retry.StopError
					if !errors.As(err, &stop) || stop.Kind != retry.StopAccess {
						t.Errorf("error %v, counts %+v", err, counts.Slots)
					}
					return
				}
				want := checkpoint.SlotCounts{Seen: items, Rotated: items - 1, Failed: 1}
				if err != nil || counts.Slots != want {
					t.Errorf("%v: %+v %v, want %+v", err, counts.Slots, counts.Reasons, want)
				}
			})
		}
	}
}

// refusing lists items without their content. It refuses to load one of them, or all of them.
type refusing struct {
	*memoryTarget
	code string
	all  bool
}

func (r *refusing) Page(
	ctx context.Context, p scan.Partition, cursor scan.Cursor,
) (scan.Page, error) {
	page, err := r.memoryTarget.Page(ctx, p, cursor)
	for i := range page.Items {
		page.Items[i].Payload = nil
	}
	return page, err
}

func (r *refusing) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	if r.all || ref == "00" {
		return scan.Item{}, &smithy.GenericAPIError{Code: r.code}
	}
	return r.memoryTarget.Load(ctx, ref)
}
