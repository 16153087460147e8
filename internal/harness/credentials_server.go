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

// CredentialServer returns temporary credentials for rotator, like the endpoint of a container.
// Each response has a new access key.
type CredentialServer struct {
	env  *Env
	life time.Duration
	url  string

	mu      sync.Mutex
	broken  bool
	keys    []string // handed out, oldest first
	refused int
}

// CredentialServer starts a CredentialServer whose credentials expire after life. It is stopped
// when the test ends.
func (w *Env) CredentialServer(t testing.TB, life time.Duration) *CredentialServer {
	v := &CredentialServer{env: w, life: life}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	v.url = server.URL
	return v
}

// Env configures a command to request its credentials from the server.
func (v *CredentialServer) Env(p *Process) {
	p.Unset("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=")
	p.Env = append(p.Env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+v.url+"/credentials")
}

// Break makes the server refuse all requests, or serve them again.
func (v *CredentialServer) Break(broken bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.broken = broken
}

// Issued returns the number of access keys that were returned.
func (v *CredentialServer) Issued() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.keys)
}

// Revoke makes the services refuse all access keys that were returned so far, as expired, even
// before their expiration time.
func (v *CredentialServer) Revoke() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range v.keys {
		v.env.Server.Expire(key)
	}
}

func (v *CredentialServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken {
		v.refused++
		http.Error(w, `{"code":"AccessDenied","message":"the role was taken away"}`,
			http.StatusForbidden)
		return
	}
	key := fmt.Sprintf("ASIAWORKER%06d", len(v.keys))
	v.keys = append(v.keys, key)
	secret, token := "worker-secret-"+rand.Text(), "worker-session-"+rand.Text()
	v.env.secrets.add("a temporary secret access key", secret)
	v.env.secrets.add("a temporary session token", token)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"AccessKeyId":     key,
		"SecretAccessKey": secret,
		"Token":           token,
		"Expiration":      time.Now().Add(v.life).UTC().Format(time.RFC3339),
	})
}
