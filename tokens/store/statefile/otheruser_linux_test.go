package statefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asOtherUser runs f as the user nobody, in a thread of its own. Linux has credentials for each
// thread, and a thread without the user root has no capabilities.
func asOtherUser(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	failure := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
			failure <- errno
			return
		}
		f()
		failure <- nil
	}()
	if err := <-failure; err != nil {
		t.Fatal(err)
	}
}

// connectTo connects to a Unix socket in the calling thread, which net.Dial does not promise.
func connectTo(path string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	return syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
}

func TestAnotherUserReachesNeitherTheSocketNorTheFile(t *testing.T) {
	path := statePath(t)
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil { // so that only the files' own modes count
		t.Fatal(err)
	}
	server, client := open(t, path)
	defer closeBoth(t, server, client)
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := connectTo(path + ".sock"); err != nil {
		t.Errorf("the file's own user: %v", err)
	}
	asOtherUser(t, func() {
		if err := connectTo(path + ".sock"); !errors.Is(err, syscall.EACCES) {
			t.Errorf("the socket: %v", err)
		}
		for _, name := range []string{path, path + ".lock"} {
			if _, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); !errors.Is(err, syscall.EACCES) {
				t.Errorf("%s: %v", filepath.Base(name), err)
			}
		}
	})
}
