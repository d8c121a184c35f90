//go:build unix

package statefile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// listen opens the Unix socket at path, which is beside the state file. It first removes the socket
// that a killed process may have left. The socket listens only after its mode is set, so no other
// user can connect before.
func (d *disk) listen(path string) (net.Listener, error) {
	if err := d.root.Remove(d.name + socketSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }() // the listener has a copy
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if err := d.root.Chmod(d.name+socketSuffix, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Listen(fd, 128); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// socket returns a new Unix socket that no child process inherits.
func socket() (fd int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, err
}

func (d *disk) removeSocket() { _ = d.root.Remove(d.name + socketSuffix) } // if this fails, the next process removes the socket
