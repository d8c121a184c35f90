package config_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

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

// allocated returns how many bytes do allocates. That is at least what it uses at once.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestASeedOfCommentsTakesNoMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		content string
		problem string
	}{
		"long":       {strings.Repeat("# "+strings.Repeat("x", 98)+"\n", 4<<20/101) + "{}", ""},
		"one":        {"#" + strings.Repeat("x", 4<<20-10) + "\n{}", ""},
		"empty ones": {strings.Repeat("#\n", 2<<20-10) + "{}", "comments"},
		"behind":     {"portals:\n" + strings.Repeat("- id: 1 #\n", 400_000), "comments"},
		"list":       {"portals: [" + strings.Repeat("1,", 2<<20-10) + "]", "commas"},
		"brackets":   {"portals: [" + strings.Repeat("[],", 1<<20) + "]", "brackets"},
	} {
		path := write(t, "seed", tt.content)
		var err error
		took := allocated(func() { _, err = config.ReadSeed(path) })
		if took > 200<<20 {
			t.Errorf("%s: %d MiB were allocated", name, took>>20)
		}
		if tt.problem == "" && err != nil || tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestAtMostAHundredFaultsOfASeedAreReported(t *testing.T) {
	_, err := config.ReadSeed(write(t, "seed", "portals: ["+strings.Repeat("1,", 100_000)+"1]"))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 101 || !strings.Contains(lines[100], "has more faults than these") {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}
