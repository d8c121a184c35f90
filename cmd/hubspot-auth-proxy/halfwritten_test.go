package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
)

func TestASeedFileThatIsJustBeingWrittenIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("portals: []\n")
	s := &seeder{settings: config.Config{SeedFile: path}, log: zap.NewNop()}
	if err := s.read(); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		text string
		want bool
	}{
		{"portals: []\n", false},                                // as it was read
		{"portals:\n - id: 62515\n   api_key: ab", false},       // half of it
		{"portals:\n - id: 62515\n   api_key: abcd\n", false},   // all of it
		{"portals:\n - id: 62515\n   api_key: abcd\n", true},    // and still
		{"portals:\n - id: 62515\n   api_key: abcdef\n", false}, // another one
		{"portals: []\n", false},                                // which was taken back
		{"portals: []\n", false},                                // so that nothing has changed
	} {
		write(step.text)
		if got := s.changed(); got != step.want {
			t.Errorf("look %d: changed is %v", i+1, got)
		}
	}
}
