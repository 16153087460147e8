package conformance

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// The region and credentials of all clients and of versitygw.
const (
	region    = "us-east-1"
	accessKey = "AKIAROTATOREXAMPLE00"
	secretKey = "not-a-secret-but-looked-for-in-outputs"
)

// config returns the configuration for an SDK client of a server.
func config(endpoint string) aws.Config {
	return aws.Config{
		Region:       region,
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	}
}

// start runs a server on a free loopback port until the test ends. It returns the endpoint when
// the server responds.
func start(t *testing.T, s server) (endpoint string) {
	t.Helper()
	port := freePort(t)
	cmd := s.command(t, port)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a wrapper may start the real server
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("end of the output of %s: %s", s.name, tail(log.String(), 2000))
		}
	})
	endpoint = fmt.Sprintf("http://127.0.0.1:%d", port)
	client := http.Client{Timeout: 5 * time.Second}
	for range 600 {
		if answer, err := client.Get(endpoint); err == nil {
			_ = answer.Body.Close()
			return endpoint
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s exited during startup: %v", s.name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("%s did not answer within a minute", s.name)
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// build builds the package at path, in the module directory, as program.
func build(t *testing.T, module, program, path string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", program, path)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", path, err, out)
	}
}

// install installs one version of an npm package, without its install scripts, and returns the
// node_modules directory. Packages are kept in the user's cache directory. A new package is
// installed in a temporary directory there, which is renamed when it is complete.
func install(t *testing.T, name, version string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	root := filepath.Join(cache, "rotator-conformance")
	dir := filepath.Join(root, strings.NewReplacer("@", "", "/", "-").Replace(name)+"-"+version)
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(root, "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	out, err := exec.Command("npm", "install", "--prefix", fresh, "--no-audit", "--no-fund",
		"--ignore-scripts", name+"@"+version).CombinedOutput()
	if err != nil {
		t.Fatalf("npm install %s@%s: %v\n%s", name, version, err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return modules
}

func subdirectory(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }
