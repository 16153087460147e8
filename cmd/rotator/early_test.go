package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// earlyWorld is a table and a bucket whose slots are all of the same form.
type earlyWorld struct {
	*mixed
	t    *testing.T
	rows *dynamodb.Client
	dir  string
}

func newEarlyWorld(t *testing.T, rows int) *earlyWorld {
	t.Helper()
	w := &earlyWorld{mixed: newMixed(t, 0), t: t, dir: t.TempDir()}
	w.rows = dynamodb.New(dynamodb.Options{Region: "us-east-1",
		BaseEndpoint: aws.String(w.server.Endpoint()), Credentials: w.client.Options().Credentials})
	_, err := w.rows.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("rows"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.fill(rows, "old", map[string]string{"app": "pay"})
	return w
}

// fill writes all rows again, each with one ciphertext.
func (w *earlyWorld) fill(rows int, key string, context map[string]string) {
	w.t.Helper()
	group, ctx := errgroup.WithContext(w.t.Context())
	group.SetLimit(16)
	for i := range rows {
		group.Go(func() error { return w.put(ctx, fmt.Sprint(i), key, context) })
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *earlyWorld) put(ctx context.Context, id, key string, context map[string]string) error {
	blob, err := w.server.KMS().Encrypt(w.keys[key], []byte("x"), context)
	if err != nil {
		return err
	}
	_, err = w.rows.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("rows"),
		Item: attributes{"id": textOf(id), "note": textOf("text"),
			"secret": &types.AttributeValueMemberB{Value: blob}}})
	return err
}

// job writes a job file with one source key and the lines of targets.
func (w *earlyWorld) job(source, targets string) {
	w.t.Helper()
	file := filepath.Join(w.dir, "job.yaml")
	text := fmt.Sprintf("job: early\ndestination: { key: %q }\nsource: { keys: [%q] }\n"+
		"kms: { rate: 10000 }\ntargets:\n%s", w.keys["new"], w.keys[source], targets)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// rotator runs a command that must exit with a given code. It returns the output and the
// number of requests to KMS.
func (w *earlyWorld) rotator(code int, args ...string) (out, errs string, requests int) {
	w.t.Helper()
	before := w.server.Faults().Counts()["kms:ReEncrypt"]
	got, out, errs := command(w.t, w.env, append(args, "-f", filepath.Join(w.dir, "job.yaml"))...)
	if got != code {
		w.t.Fatalf("rotator %q exited with %d, want %d\n%s%s", args, got, code, out, errs)
	}
	return out, errs, w.server.Faults().Counts()["kms:ReEncrypt"] - before
}

const rightRows = "  - name: rows\n    dynamodb: { table: rows, segments: 4 }\n    format: raw\n" +
	"    slots: [{ path: secret, context: { app: pay } }]\n"

// wrongRows returns rightRows with one text replaced.
func wrongRows(right, wrong string) string { return strings.Replace(rightRows, right, wrong, 1) }

// TestWrongJobFileStopsEarly: if a context, format or key in the job file fits no slot, the
// run stops after the first slots, with a message that names the line and what to correct.
// Nothing is written, and the corrected job file begins the next pass.
func TestWrongJobFileStopsEarly(t *testing.T) {
	t.Parallel()
	const rows = 400
	for name, c := range map[string]struct {
		source, targets string
		want            []string
	}{
		"context": {"old", wrongRows("app: pay", "app: shop"), []string{
			"job.yaml:9:29: targets[0].slots[0].context: rows, slots[0]: the first 50",
			"slots are all failed/source-other-context: context is probably wrong. Write each " +
				"pair that the application passes to Encrypt"}},
		"missing context": {"old", wrongRows("app: pay", `app: "${tenant}"`), []string{
			"failed/missing-context: the encryption context needs ${tenant}, but the item has no " +
				"attribute tenant. Name a value that each item has"}},
		"format": {"old", wrongRows("raw", "base64"), []string{
			"targets[0].slots[0]: ", "format or path is probably wrong"}},
		"path": {"old", wrongRows("secret", "note"), []string{"failed/wrong-type"}},
		"key": {"third", rightRows, []string{
			"job.yaml:3:", "source.keys: rows, slots[0]: the first 50",
			"foreign/foreign-key: they are under arn:aws:kms"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEarlyWorld(t, rows)
			w.job(c.source, c.targets)
			for range 2 { // a second run with the same file stops as well
				_, errs, requests := w.rotator(exitJob, "run")
				for _, text := range append(c.want, "rotator run begins a new pass with it") {
					if !strings.Contains(errs, text) {
						t.Errorf("want %q: %s", text, errs)
					}
				}
				if requests > 4*50+10 { // 4 for each of the first 50 slots
					t.Errorf("%d requests", requests)
				}
			}
			if list, _, _ := w.rotator(exitDone, "report", "--ledger", "-o", "json"); list != "" {
				t.Errorf("the ledger holds %q", list)
			}
			w.job("old", rightRows)
			out, errs, _ := w.rotator(exitDone, "run", "-o", "json")
			if !strings.Contains(out, fmt.Sprintf(`"rotated": %d`, rows)) ||
				!strings.Contains(out, `"pass": 2`) ||
				!strings.Contains(errs,
					"pass 1 was stopped early, and its record contains no moved slots") {
				t.Errorf("with the corrected job file: %s%s", out, errs)
			}
		})
	}
}

// TestStopAfterZero: with stop_after 0 the pass continues to its end. A pass that stopped early
// also continues.
func TestStopAfterZero(t *testing.T) {
	t.Parallel()
	const rows = 300
	w := newEarlyWorld(t, rows)
	w.job("old", wrongRows("app: pay", "app: shop"))
	w.rotator(exitJob, "run")
	w.job("old", wrongRows("app: pay }", "app: shop }, stop_after: 0"))
	out, _, _ := w.rotator(exitExceptions, "run", "-o", "json")
	if !strings.Contains(out, fmt.Sprintf(`"failed": %d`, rows)) ||
		!strings.Contains(out, `"pass": 1`) {
		t.Errorf("want the end of pass 1: %s", out)
	}
}

// TestReadersWarnOfWrongJobFile: audit and verify warn once and continue. With --fail-fast they
// stop.
func TestReadersWarnOfWrongJobFile(t *testing.T) {
	t.Parallel()
	const rows = 600
	w := newEarlyWorld(t, rows)
	w.job("old", wrongRows("app: pay", "app: shop"))
	for command, code := range map[string]int{"audit": exitDone, "verify": exitExceptions} {
		out, errs, _ := w.rotator(code, command, "-o", "json")
		if strings.Count(errs, "slots are all failed/source-other-context") != 1 ||
			!strings.Contains(out, fmt.Sprintf(`"failed": %d`, rows)) {
			t.Errorf("%s: want one warning and all slots: %s%s", command, out, errs)
		}
		_, errs, requests := w.rotator(exitJob, command, "--fail-fast")
		if !strings.Contains(errs, "targets[0].slots[0].context: rows, slots[0]: the first 50") ||
			!strings.Contains(errs, "without --fail-fast") || requests > 4*50+10 {
			t.Errorf("%s --fail-fast: %d requests: %s", command, requests, errs)
		}
	}
}

// TestSuccessKeepsFromStopping: a rule with a success in this pass, or in the last complete
// pass with the same fingerprint, never stops a run. Slots that fail for reasons which the job
// file cannot cause never stop a run either.
func TestSuccessKeepsFromStopping(t *testing.T) {
	t.Parallel()
	t.Run("in the pass before", func(t *testing.T) {
		t.Parallel()
		w := newEarlyWorld(t, 100)
		w.job("old", rightRows)
		w.rotator(exitDone, "run")
		w.fill(100, "old", map[string]string{"app": "shop"})
		w.rotator(exitExceptions, "run")
		// That pass had no success, and is now the last one.
		w.rotator(exitJob, "run")
		if _, errs, _ := w.rotator(exitJob, "audit", "--fail-fast"); errs == "" {
			t.Error("no message")
		}
	})
	t.Run("in this pass", func(t *testing.T) {
		t.Parallel()
		w := newEarlyWorld(t, 60)
		for i := range 60 {
			key := fmt.Sprintf("prod/%02d", i)
			context := map[string]string{"app": "shop"}
			if i == 20 {
				context["app"] = "pay"
			}
			w.object(key, "old", context, s3types.StorageClassStandard)
		}
		w.job("old", "  - s3: { bucket: "+mixedBucket+" }\n    format: base64\n"+
			"    slots: [{ context: { app: pay } }]\nworkers: 4\n")
		w.rotator(exitExceptions, "run")
	})
	t.Run("archived first", func(t *testing.T) {
		t.Parallel()
		w := newEarlyWorld(t, 1)
		for i := range 70 {
			w.object(fmt.Sprintf("a/%02d", i), "old", nil, s3types.StorageClassGlacier)
		}
		w.object("b", "old", map[string]string{"app": "pay"}, s3types.StorageClassStandard)
		w.job("old", "  - s3: { bucket: "+mixedBucket+" }\n    format: base64\n"+
			"    slots: [{ context: { app: pay } }]\n")
		out, _, _ := w.rotator(exitExceptions, "run", "-o", "json")
		if !strings.Contains(out, `"failed": 70`) || !strings.Contains(out, `"rotated": 1`) {
			t.Errorf("result %s", out)
		}
	})
	t.Run("accepted", func(t *testing.T) {
		t.Parallel()
		w := newEarlyWorld(t, 80)
		w.fill(80, "third", map[string]string{"app": "pay"})
		w.job("old", rightRows+"accept: [{ target: rows, reason: [foreign-key], "+
			"because: known }]\n")
		w.rotator(exitDone, "run")
	})
}

func (w *earlyWorld) object(
	key, under string, context map[string]string, class s3types.StorageClass,
) {
	w.t.Helper()
	blob, err := w.server.KMS().Encrypt(w.keys[under], []byte("x"), context)
	if err == nil {
		_, err = w.client.PutObject(w.t.Context(), &s3.PutObjectInput{
			Bucket:       aws.String(mixedBucket),
			Key:          aws.String(key),
			Body:         bytes.NewReader([]byte(base64.StdEncoding.EncodeToString(blob))),
			StorageClass: class,
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestMaxFailures: --max-failures stops a run or a retry when more slots fail: by number or,
// from 1,000 slots on, by percentage. Without the flag the pass continues.
func TestMaxFailures(t *testing.T) {
	t.Parallel()
	w := newEarlyWorld(t, 1200)
	for i := range 300 { // a quarter
		err := w.put(t.Context(), fmt.Sprint(i*4), "old", map[string]string{"app": "shop"})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.job("old", rightRows)
	for _, most := range []string{"-1", "x", "101%", "-2%", "NaN%", "%"} {
		w.rotator(exitUsage, "run", "--max-failures="+most)
	}
	_, errs, _ := w.rotator(exitJob, "run", "--max-failures", "10")
	if !strings.Contains(errs, "slots failed, which is more than --max-failures 10 (for example "+
		`target rows, {"id":{"S":"`) || !strings.Contains(errs, "failed/source-other-context)") ||
		!strings.Contains(errs, "rotator run then continues the pass") {
		t.Errorf("with a number: %s", errs)
	}
	_, errs, _ = w.rotator(exitJob, "run", "--max-failures", "2.5%")
	if !strings.Contains(errs, "more than --max-failures 2.5%") {
		t.Errorf("with a percentage: %s", errs)
	}
	out, _, _ := w.rotator(exitExceptions, "run", "--max-failures", "30%", "-o", "json")
	if !strings.Contains(out, `"failed": 300`) || !strings.Contains(out, `"pass": 1`) {
		t.Errorf("without --max-failures: %s", out)
	}
	_, errs, _ = w.rotator(exitJob, "retry", "--max-failures", "10")
	if !strings.Contains(errs, "more than --max-failures 10") {
		t.Errorf("with retry: %s", errs)
	}
	w.rotator(exitExceptions, "retry", "--max-failures", "300")
}
