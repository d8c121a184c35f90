package testkit_test

import (
	"path/filepath"
	"testing"

	"hubspot-auth-proxy/tokens/testkit"
)

// attempt is a testing.TB that records whether it was skipped or failed.
type attempt struct {
	testing.TB
	skipped, failed bool
}

func (*attempt) Helper()        {}
func (a *attempt) Skip(...any)  { a.skipped = true }
func (a *attempt) Fatal(...any) { a.failed = true }

func TestAMissingProgramSkipsATestAndFailsItInCI(t *testing.T) {
	for ci, want := range map[string]attempt{"": {skipped: true}, "true": {failed: true}} {
		t.Setenv("CI", ci)
		got := attempt{}
		if path := testkit.Need(&got, "no-such-program"); path != "" || got != want {
			t.Errorf("with CI=%q: %q, %+v", ci, path, got)
		}
	}
	got := attempt{}
	if path := testkit.Need(&got, "no-such-program", "go"); filepath.Base(path) != "go" || got != (attempt{}) {
		t.Errorf("one of two: %q, %+v", path, got)
	}
}
