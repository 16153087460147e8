package fastkms

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/flowcontrol"
)

// disturbance describes which operations are blocked. Each span is the start and the end in
// seconds.
type disturbance struct {
	credentials [2]float64 // credentials are not renewed
	dial        [2]float64 // connections are not opened
	read        [2]float64 // requests are not read
}

// disturbed is a service in virtual time. A disturbance blocks requests between their permit
// and their arrival.
type disturbed struct {
	disturbance
	began time.Time

	serving  sync.WaitGroup
	mu       sync.Mutex
	arrivals []time.Time
	conns    []net.Conn
}

// block waits while a time span lasts.
func (d *disturbed) block(span [2]float64) {
	since := time.Since(d.began)
	from, to := time.Duration(span[0]*1e9), time.Duration(span[1]*1e9)
	if since >= from && since < to {
		time.Sleep(to - since)
	}
}

// Retrieve implements aws.CredentialsProvider.
func (d *disturbed) Retrieve(context.Context) (aws.Credentials, error) {
	d.block(d.credentials)
	return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
}

func (d *disturbed) connect(context.Context, string, string) (net.Conn, error) {
	d.block(d.dial)
	client, server := net.Pipe()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, server)
	d.serving.Go(func() { d.serve(server) })
	return client, nil
}

func (d *disturbed) serve(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		d.block(d.read)
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		d.block(d.read)
		d.mu.Lock()
		d.arrivals = append(d.arrivals, time.Now())
		d.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		if _, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s",
			len(served), served); err != nil {
			return
		}
	}
}

func (d *disturbed) close() {
	d.mu.Lock()
	for _, conn := range d.conns {
		_ = conn.Close()
	}
	d.mu.Unlock()
	d.serving.Wait()
	synctest.Wait()
}

// most returns the largest number of arrivals in any second.
func (d *disturbed) most() (n int) {
	slices.SortFunc(d.arrivals, time.Time.Compare)
	first := 0
	for last, at := range d.arrivals {
		for at.Sub(d.arrivals[first]) >= time.Second {
			first++
		}
		n = max(n, last-first+1)
	}
	return n
}

// load sends requests with many workers until the end of d.
func (d *disturbed) load(t *testing.T, rate float64, sdk bool, workers int, end time.Duration) {
	limiter := flowcontrol.NewLimiter(rate)
	permits := &Permits{Valid: limiter.Valid(), Renew: limiter.Renew}
	cfg := configOf("http://kms.test", "")
	cfg.Credentials = d
	cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.DialContext, t.MaxIdleConnsPerHost = d.connect, workers
	})
	cfg.APIOptions = append(cfg.APIOptions, permits.Install)
	reEncrypt := kms.NewFromConfig(cfg).ReEncrypt
	if !sdk {
		ours := New(cfg, nil, 0)
		ours.SetPermits(permits)
		reEncrypt = ours.ReEncrypt
	}
	ctx, cancel := context.WithTimeout(t.Context(), end)
	defer cancel()
	in := &kms.ReEncryptInput{CiphertextBlob: []byte{1}, DestinationKeyId: aws.String("k")}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				sent, err := limiter.Begin(ctx)
				if err != nil {
					return
				}
				_, err = reEncrypt(t.Context(), in)
				limiter.End(sent, flowcontrol.Served, 0)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestRequestsAreNotBunched: whatever delays requests between their permit and their
// arrival, the number of requests in any second exceeds the rate by at most a tolerance: 1%
// if requests are delayed before they are sent, and 5% if a stall delays requests in flight.
func TestRequestsAreNotBunched(t *testing.T) {
	rates := []float64{10, 50, 400}
	if testing.Short() {
		rates = rates[1:2]
	}
	for _, test := range []struct {
		name      string
		service   disturbance
		tolerance float64
	}{
		{"undisturbed", disturbance{}, 0.01},
		{"slow first connections", disturbance{dial: [2]float64{0, 0.3}}, 0.01},
		{"slow first credentials", disturbance{credentials: [2]float64{0, 3}}, 0.01},
		{"credentials renewed", disturbance{credentials: [2]float64{2, 5}}, 0.01},
		{"connections stalled", disturbance{dial: [2]float64{2, 4}}, 0.01},
		{"requests stalled", disturbance{read: [2]float64{2, 4}}, 0.05},
		{"requests stalled shortly", disturbance{read: [2]float64{2, 2.2}}, 0.05},
	} {
		for _, rate := range rates {
			for _, sdk := range []bool{false, true} {
				name := fmt.Sprintf("%s, rate %v, sdk %v", test.name, rate, sdk)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						const end = 8 * time.Second
						service := &disturbed{disturbance: test.service, began: time.Now()}
						service.load(t, rate, sdk, 64, end)
						service.close()
						most := service.most()
						if limit := rate + max(1, rate*test.tolerance); float64(most) > limit {
							t.Errorf("%d requests in a second, want at most %v", most, limit)
						}
						late := 0 // in the last two seconds
						for _, at := range service.arrivals {
							if at.Sub(service.began) >= end-2*time.Second {
								late++
							}
						}
						if least := 0.95 * 2 * rate; float64(late) < least-1 {
							t.Errorf("%d requests in the last 2 seconds, want %v", late, least)
						}
					})
				})
			}
		}
	}
}
