package harness

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Vendor hands out temporary credentials of the worker, as the endpoint of a
// container does. Each request gets a new access key.
type Vendor struct {
	world *World
	life  time.Duration
	url   string

	mu      sync.Mutex
	broken  bool
	keys    []string // handed out, oldest first
	refused int
}

// Vend starts a Vendor whose credentials say that they are valid for life, and stops
// it with the test.
func (w *World) Vend(t testing.TB, life time.Duration) *Vendor {
	v := &Vendor{world: w, life: life}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	v.url = server.URL
	return v
}

// Env makes a command get its credentials here.
func (v *Vendor) Env(p *Process) {
	p.Unset("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=")
	p.Env = append(p.Env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+v.url+"/credentials")
}

// Break makes the vendor refuse, or serve again.
func (v *Vendor) Break(broken bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.broken = broken
}

// Issued is how many access keys were handed out.
func (v *Vendor) Issued() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.keys)
}

// Revoke has all access keys that were handed out so far refused as expired,
// whatever they say of their life.
func (v *Vendor) Revoke() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range v.keys {
		v.world.Server.Expire(key)
	}
}

func (v *Vendor) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken {
		v.refused++
		http.Error(w, `{"code":"AccessDenied","message":"the role was taken away"}`, http.StatusForbidden)
		return
	}
	key := fmt.Sprintf("ASIAWORKER%06d", len(v.keys))
	v.keys = append(v.keys, key)
	secret, token := "worker-secret-"+rand.Text(), "worker-session-"+rand.Text()
	v.world.secrets.add("a temporary secret access key", secret)
	v.world.secrets.add("a temporary session token", token)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"AccessKeyId": key, "SecretAccessKey": secret, "Token": token,
		"Expiration": time.Now().Add(v.life).UTC().Format(time.RFC3339)})
}
