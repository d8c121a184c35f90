//go:build unix

package statefile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// listen opens the socket beside the file. A process that was killed may have left one. Nobody
// can connect before the socket has its mode, because it does not listen until then.
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

// socket makes a Unix socket that no child process inherits.
func socket() (fd int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, err
}

func (d *disk) removeSocket() { _ = d.root.Remove(d.name + socketSuffix) } // else the next process does
