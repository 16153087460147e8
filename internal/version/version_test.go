package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	installed := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}
	unstamped := &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}
	for name, test := range map[string]struct {
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		"the version of the linker has priority": {"v1.2.3-4-gabc", installed, "v1.2.3-4-gabc"},
		"go install":                             {"", installed, "v1.2.3"},
		"a test":                                 {"", unstamped, Development},
		"without a main module":                  {"", &debug.BuildInfo{}, Development},
		"without build information":              {"", nil, Development},
	} {
		if got := choose(test.linked, test.info); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestText(t *testing.T) {
	if text := Text("rotator"); !strings.HasPrefix(text, "rotator "+Development+" (go") {
		t.Errorf("the text is %q", text)
	}
}
