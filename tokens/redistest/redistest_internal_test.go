//go:build unix

package redistest

import "testing"

func TestAServerIsNotTakenForAnotherOneOnItsPort(t *testing.T) {
	t.Parallel()
	first := Start(t)
	second := &Server{tb: t, dir: t.TempDir(), Addr: first.Addr}
	t.Cleanup(second.Kill)
	if err := second.start(); err == nil {
		t.Error("a server is started on a port that another server has")
	}
}
