package testkit

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need returns the path of the first of these programs that is installed. If none is, Need
// skips the test. If the environment variable CI is set, Need fails the test instead, so that
// no test is skipped in CI.
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

// Lacks skips the test with the message what, which says what this machine lacks. If the
// environment variable CI is set, Lacks fails the test instead.
func Lacks(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "" {
		tb.Skip(what)
		return
	}
	tb.Fatal(what + ", and CI is set")
}
