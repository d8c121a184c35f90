package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/config"
)

// longAgo is a modification time that identifies the content of a file.
var longAgo = time.Now().Add(-time.Hour)

// put writes a file with that modification time.
func put(t *testing.T, path, content string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func wantChanged(t *testing.T, f *config.File, want string) {
	t.Helper()
	content, changed, err := f.Changed()
	if err != nil || changed != (want != "") || string(content) != want {
		t.Errorf("%q, %t, %v; want %q", content, changed, err, want)
	}
}

func TestAFileIsReadAgainWhenItHasChangedAndIsTheSameTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	put(t, path, "first", longAgo)
	f := config.SeedFile(path)
	if content, err := f.Read(); err != nil || string(content) != "first" {
		t.Fatalf("%q, %v", content, err)
	}
	wantChanged(t, f, "")
	put(t, path, "half", longAgo.Add(time.Second))
	wantChanged(t, f, "")
	put(t, path, "half and half", longAgo.Add(2*time.Second))
	wantChanged(t, f, "")
	wantChanged(t, f, "half and half")
	wantChanged(t, f, "")
	put(t, path, "again", longAgo.Add(3*time.Second))
	wantChanged(t, f, "")
	put(t, path, "half and half", longAgo.Add(4*time.Second)) // the content that was returned last
	wantChanged(t, f, "")
	wantChanged(t, f, "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Changed(); err == nil || !strings.Contains(err.Error(), "SEED_FILE: cannot read") {
		t.Errorf("gone: %v", err)
	}
	put(t, path, "back", time.Now()) // too recent for its time to identify it
	wantChanged(t, f, "")
	wantChanged(t, f, "back")
	put(t, path, "bark", time.Now().Truncate(time.Hour).Add(time.Hour))
	wantChanged(t, f, "")
	wantChanged(t, f, "bark")
}

// The test changes the content of a file without changing its size and time, so that only
// reading the file would show the change.
func TestAFileOfTheSameSizeAndTimeIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	put(t, path, "first", longAgo)
	f := config.SeedFile(path)
	if _, err := f.Read(); err != nil {
		t.Fatal(err)
	}
	put(t, path, "other", longAgo)
	for range 3 {
		wantChanged(t, f, "")
	}
	put(t, path, "fresh", time.Now())
	wantChanged(t, f, "")
	wantChanged(t, f, "fresh")
	put(t, path, "fresk", time.Now()) // possibly with the same modification time
	wantChanged(t, f, "")
	wantChanged(t, f, "fresk")
}

func TestAFileThatIsTooLargeIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	put(t, path, "{}", longAgo)
	f := config.SeedFile(path)
	if _, err := f.Read(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<30); err != nil { // a sparse file, which takes no space
		t.Skip(err)
	}
	for range 3 {
		if _, _, err := f.Changed(); err == nil || !strings.Contains(err.Error(), "has more than 4 MiB") {
			t.Errorf("%v", err)
		}
	}
	put(t, path, "{} ", longAgo)
	wantChanged(t, f, "")
	wantChanged(t, f, "{} ")
}

func TestASeedFileThatCannotBeReadIsAFault(t *testing.T) {
	dir, large := t.TempDir(), write(t, "large", "")
	if err := os.Truncate(large, 4<<20+1); err != nil {
		t.Fatal(err)
	}
	const readable = "; give the path of a file that this process may read"
	for path, want := range map[string]string{
		"/does/not/exist":     `SEED_FILE: cannot read "/does/not/exist": no such file or directory` + readable,
		dir:                   "SEED_FILE: cannot read " + quoted(dir) + ": is a directory" + readable,
		"{api_key: " + canary: "SEED_FILE: cannot read the file (path not shown, because it begins with neither / nor . and may be the secret itself): no such file or directory" + readable,
		large:                 "SEED_FILE: has more than 4 MiB; remove entries that are not needed, or connect portals with the portal command",
	} {
		_, err := config.SeedFile(path).Read()
		if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
			t.Error(diff)
		}
	}
}
