package conformance

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// service is an AWS service that a server implements.
type service string

const (
	kmsService      service = "KMS"
	dynamodbService service = "DynamoDB"
	s3Service       service = "S3"
)

// The versions to which the known deviations apply. The version of versitygw is in go.mod.
const (
	motoVersion     = "5.2.1"
	dynoxideVersion = "1.2.1"
	dynaliteVersion = "4.0.0"
)

// server is a third-party server.
type server struct {
	name     string
	services []service
	// origin is the source of the server, for the document.
	origin string
	// lacking returns which requirement this machine does not meet, or "" if there is none.
	lacking func() string
	// command installs the server and returns the command that runs it on a loopback port.
	command func(t *testing.T, port int) *exec.Cmd
}

func (s server) has(want service) bool {
	for _, one := range s.services {
		if one == want {
			return true
		}
	}
	return false
}

func servers() []server {
	return []server{
		{name: "moto", services: []service{kmsService, dynamodbService, s3Service},
			origin:  "`moto_server` " + motoVersion + " (Python), as installed on the machine",
			lacking: missing("moto_server"), command: moto},
		{name: "versitygw", services: []service{s3Service},
			origin: "Go module `github.com/versity/versitygw`, in the version of " +
				"`test/conformance/go.mod`, with its posix backend",
			lacking: func() string { return "" }, command: versitygw},
		{name: "dynoxide", services: []service{dynamodbService},
			origin: "npm `@dynoxide/linux-x64` " + dynoxideVersion +
				", a native binary, in memory",
			lacking: dynoxideLacks, command: dynoxide},
		{name: "dynalite", services: []service{dynamodbService},
			origin:  "npm `dynalite` " + dynaliteVersion + " (Node.js), in memory",
			lacking: missing("node", "npm"), command: dynalite},
	}
}

// missing returns a function that names the first program that is not installed, or returns "".
func missing(programs ...string) func() string {
	return func() string {
		for _, program := range programs {
			if _, err := exec.LookPath(program); err != nil {
				return program + " is not installed"
			}
		}
		return ""
	}
}

func moto(t *testing.T, port int) *exec.Cmd {
	version, err := exec.Command("python3", "-c",
		"import importlib.metadata as m; print(m.version('moto'), end='')").Output()
	if err == nil && string(version) != motoVersion {
		fmt.Printf("NOTE: moto is %s; the known deviations are those of %s\n", version, motoVersion)
	}
	return exec.Command("moto_server", "-H", "127.0.0.1", "-p", fmt.Sprint(port))
}

// versitygw stores object metadata in extended attributes, or in separate files if the file system
// does not support them.
func versitygw(t *testing.T, port int) *exec.Cmd {
	dir := t.TempDir()
	program := filepath.Join(dir, "versitygw")
	build(t, ".", program, "github.com/versity/versitygw/cmd/versitygw")
	args := []string{
		"--port",
		fmt.Sprintf("127.0.0.1:%d", port),
		"--access",
		accessKey,
		"--secret",
		secretKey,
		"--region",
		region,
		"--quiet",
		"posix",
		"--versioning-dir",
		subdirectory(t, dir, "versions"),
	}
	objects := subdirectory(t, dir, "objects")
	if err := unix.Setxattr(objects, "user.rotator", []byte("x"), 0); err != nil {
		args = append(args, "--sidecar", subdirectory(t, dir, "sidecar"))
	}
	return exec.Command(program, append(args, objects)...)
}

func dynoxideLacks() string {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "there is no binary for " + runtime.GOOS + "/" + runtime.GOARCH
	}
	return missing("npm")()
}

func dynoxide(t *testing.T, port int) *exec.Cmd {
	modules := install(t, "@dynoxide/linux-x64", dynoxideVersion)
	return exec.Command(filepath.Join(modules, "@dynoxide", "linux-x64", "dynoxide"), "serve",
		"--host", "127.0.0.1", "--port", fmt.Sprint(port))
}

// dynalite sets --host, because dynalite listens on all addresses by default.
func dynalite(t *testing.T, port int) *exec.Cmd {
	modules := install(t, "dynalite", dynaliteVersion)
	return exec.Command("node", filepath.Join(modules, "dynalite", "cli.js"), "--host",
		"127.0.0.1", "--port", fmt.Sprint(port),
		"--createTableMs", "0")
}
