package testkit

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need returns the path of the first of these programs that is installed.
// Without one, the test is skipped; where CI is set it fails, so that nothing
// passes there that was not tried.
func Need(tb testing.TB, names ...string) (path string) {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Lacks(tb, strings.Join(names, " or ")+" is not installed")
	return ""
}

// Lacks skips the test, or fails it where CI is set, because of what this
// machine lacks.
func Lacks(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "" {
		tb.Skip(what)
		return
	}
	tb.Fatal(what + ", and CI is set")
}
