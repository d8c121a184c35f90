package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// firstFields are the fields that records have had since the first version, without
// those that write.lua writes.
var firstFields = map[string]bool{
	"name": true, "access_token": true, "api_key": true, "refresh_token": true,
	"expires_at": true, "renewed_at": true, "renewed_for": true, "ended_code": true,
}

// buildFirstLayout builds a program that writes only firstFields and those of write.lua.
func buildFirstLayout(t *testing.T) (path string) {
	t.Helper()
	const source = "tokens/store/record.go"
	left := 0
	text := regexp.MustCompile(`(?m)^\tset\("(\w+)", .*\n`).ReplaceAllStringFunc(read(t, filepath.Join(repository, source)), func(line string) string {
		if firstFields[regexp.MustCompile(`"(\w+)"`).FindStringSubmatch(line)[1]] {
			left++
			return line
		}
		return ""
	})
	if left != len(firstFields) {
		t.Fatalf("%d fields of the first layout are written", left)
	}
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	changed, overlay := filepath.Join(t.TempDir(), "record.go"), filepath.Join(t.TempDir(), "overlay.json")
	list, _ := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, source): changed}})
	for name, content := range map[string][]byte{changed: []byte(text), overlay: list} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return testkit.Build(t, "-overlay", overlay)
}

func TestProcessesOfTwoVersionsServeSideBySide(t *testing.T) {
	t.Parallel()
	former := buildFirstLayout(t)
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: 2 * time.Second, Rotate: true})
	for _, portal := range []string{"1", "2"} {
		set := exec.Command(former, "portal", "set", portal, "refresh_token")
		set.Env, set.Stdin = s.settings(), strings.NewReader(s.hub.Connect(portal))
		if printed, err := set.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
	}
	launchFormer := func() *process {
		return launchWith(t, func(cmd *exec.Cmd) { cmd.Path, cmd.Args = former, []string{former, "serve"} }, "", append(s.settings(), "SHUTDOWN_DELAY=500ms")...)
	}
	isFormer := func() bool { return s.redis.Do("HEXISTS", "hubspot:portal:{1}", "history") == "0" }

	l := newLoad(t, "1", "2")
	old := launchFormer()
	l.to(old)
	s.awaitRenewals(1)
	if !isFormer() {
		t.Fatal("the former version writes fields that came later")
	}
	next := s.launch("SHUTDOWN_DELAY=500ms")
	s.replace(l, old, next)
	if isFormer() {
		t.Fatal("the program has not renewed")
	}
	s.replace(l, next, launchFormer())
	l.end()
	if len(l.failed) > 0 || s.hub.Unauthorized() > 0 {
		t.Errorf("of %d requests %d failed, and %d had a dead token: %q", l.done, len(l.failed), s.hub.Unauthorized(), l.failed[:min(5, len(l.failed))])
	}
	t.Logf("%d requests, %d renewals", l.done, s.hub.TokenCalls("1"))
}

// replace replaces a process by another one. Both serve while the token is renewed;
// then the old one ends, and replace waits until the new one has renewed the token.
func (s *stage) replace(l *load, old, next *process) {
	s.t.Helper()
	l.to(old, next)
	s.awaitRenewals(2)
	old.terminate()
	l.to(next)
	if status := old.exit(); status != 0 {
		s.t.Errorf("exit status %d:\n%s", status, old.stderr.String())
	}
	s.awaitRenewals(1)
}
