// Package version names the version of the programs of this module.
package version

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Development is the version of a program that was built outside of a repository and without
// a version for the linker, such as a test.
const Development = "development"

// linked is set by the linker: -X rotator/internal/version.linked=v1.2.3 (make build).
var linked string

// String returns the version of the running program: the one that the linker was given, or
// that of the main module, which go install and go build stamp, or Development.
func String() string {
	info, _ := debug.ReadBuildInfo()
	return choose(linked, info)
}

// choose implements String. info may be nil.
func choose(linked string, info *debug.BuildInfo) string {
	stamped := ""
	if info != nil && info.Main.Version != "(devel)" {
		stamped = info.Main.Version
	}
	return cmp.Or(linked, stamped, Development)
}

// Text describes the running program for a version command: its name and version, the Go
// version and platform, and the version of the AWS SDK. Each line ends with a line feed.
func Text(program string) string {
	text := fmt.Sprintf("%s %s (%s %s/%s)\n",
		program, String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return text
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/aws/aws-sdk-go-v2" {
			text += "aws-sdk-go-v2 " + module.Version + "\n"
		}
	}
	return text
}
