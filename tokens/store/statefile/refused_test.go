//go:build unix

package statefile_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/store/statefile"
)

func TestAFileThatIsNotSafeIsRefused(t *testing.T) {
	t.Parallel()
	const whole = "hubspot-auth-proxy state 1\n"
	do := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, want string
		prepare    func(path string)
	}{
		{"others may read it", "can be opened by others (mode 0640); chmod 600", func(path string) { do(os.WriteFile(path, []byte(whole), 0o600), os.Chmod(path, 0o640)) }},
		{"symbolic link", "is a symbolic link", func(path string) { do(os.WriteFile(path+"2", []byte(whole), 0o600), os.Symlink("state2", path)) }},
		{"dangling link", "is a symbolic link", func(path string) { do(os.Symlink("nowhere", path)) }},
		{"folder", "is a folder", func(path string) { do(os.Mkdir(path, 0o700)) }},
		{"socket", "is a pipe, socket or device", func(path string) {
			listener, err := net.Listen("unix", path)
			do(err)
			t.Cleanup(func() { _ = listener.Close() })
		}},
		{"others may write to the folder", "in a folder that others may write to (mode 0770); give a folder of its own, made by mkdir -m 700", func(path string) { do(os.Chmod(filepath.Dir(path), 0o770)) }},
		{"no folder", "has a folder that cannot be opened: no such file or directory; make one that belongs to the user of this program: mkdir -m 700", func(path string) { do(os.Remove(filepath.Dir(path))) }},
		{"lock file is a link", "has a lock file, state.lock, that is a symbolic link", func(path string) { do(os.Symlink("nowhere", path+".lock")) }},
		{"others may lock it", "has a lock file, state.lock, that can be opened by others", func(path string) { do(os.WriteFile(path+".lock", nil, 0o600), os.Chmod(path+".lock", 0o644)) }},
		{"empty", "is empty", func(path string) { do(os.WriteFile(path, nil, 0o600)) }},
		{"other file", "is damaged in line 1, or is no state file", func(path string) { do(os.WriteFile(path, []byte("root:x:0\n"), 0o600)) }},
		{"newer version", "another version of this program", func(path string) { do(os.WriteFile(path, []byte("hubspot-auth-proxy state 2\n"), 0o600)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := statePath(t)
			c.prepare(path)
			before, _ := os.ReadFile(path)
			server, err := statefile.Open(path, statefile.Options{Holder: "test"})
			if err == nil {
				_ = server.Close()
				t.Fatal("it is opened")
			}
			if !strings.Contains(err.Error(), c.want) || statefile.IsInUse(err) {
				t.Errorf("the error is %q", err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file has changed")
			}
		})
	}
}

// Every byte of a file is changed, one at a time.
func TestADamagedFileIsNamedAndLeftAsItIs(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	for _, err := range []error{
		client.HSet(t.Context(), "record", "a", "1").Err(),
		client.Set(t.Context(), "epoch", "x", 0).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	closeBoth(t, server, client)
	whole := content(t, path)
	for i := range len(whole) {
		damaged := []byte(whole)
		damaged[i] ^= 0x10
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		server, err := statefile.Open(path, statefile.Options{Holder: "test"})
		if err == nil {
			_ = server.Close()
			t.Fatalf("byte %d: a damaged file is opened", i)
		}
		if after := content(t, path); after != string(damaged) {
			t.Fatalf("byte %d: the file has changed", i)
		}
	}
}

// The file is cut off at every place.
func TestAnInterruptedEntryIsDropped(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	if err := client.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := len(content(t, path))
	if err := client.Set(t.Context(), "b", "2", 0).Err(); err != nil {
		t.Fatal(err)
	}
	closeBoth(t, server, client)
	whole := content(t, path)
	for end := before; end < len(whole); end++ {
		for _, zeros := range []int{0, len(whole) - end} {
			if err := os.WriteFile(path, []byte(whole[:end]+strings.Repeat("\x00", zeros)), 0o600); err != nil {
				t.Fatal(err)
			}
			server, client := open(t, path)
			if got := client.MGet(t.Context(), "a", "b").Val(); got[0] != "1" || got[1] != nil {
				t.Fatalf("cut off at %d of %d: %q", end, len(whole), got)
			}
			if err := client.Set(t.Context(), "c", "3", 0).Err(); err != nil {
				t.Fatal(err)
			}
			closeBoth(t, server, client)
			if after := content(t, path); !strings.HasPrefix(after, whole[:before]) || strings.Contains(after, `"b"`) || !strings.Contains(after, `"c"`) {
				t.Fatalf("cut off at %d: then the file is %q", end, after)
			}
		}
	}
}

func TestASecondServerIsRefusedAndSaysWhoHasTheFile(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	_, err := statefile.Open(path, statefile.Options{Holder: "other"})
	if !statefile.IsInUse(err) || !strings.Contains(err.Error(), "is in use by process ") || !strings.Contains(err.Error(), "(test, since ") {
		t.Errorf("the error is %v", err)
	}
	closeBoth(t, server, client)
	server, client = open(t, path)
	closeBoth(t, server, client)
}

func TestOnlyThisUserReachesTheSocket(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	if listener, err := net.Listen("unix", statefile.Socket(path)); err != nil { // as a killed process leaves it
		t.Fatal(err)
	} else {
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = listener.Close()
	}
	server, client := open(t, path)
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", ".lock", ".sock"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", suffix, info.Mode(), err)
		}
	}
	closeBoth(t, server, client)
	if _, err := os.Lstat(statefile.Socket(path)); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
