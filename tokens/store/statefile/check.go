//go:build unix

package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openDisk checks the folder and the file at path, and locks the file. holder describes this process
// to others. The error is an [*Error].
func openDisk(path, holder string) (*disk, error) {
	if strings.HasSuffix(path, string(filepath.Separator)) {
		return nil, &Error{Problem: "is a folder", Remedy: "give the path of a file in it"}
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, unusable("has a folder that cannot be opened", err, "make one that belongs to the user of this program: mkdir -m 700 "+filepath.Dir(path))
	}
	d := &disk{root: root, name: filepath.Base(path)}
	if err := d.open(holder); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *disk) open(holder string) error {
	if err := d.checkFolder(); err != nil {
		return err
	}
	for _, name := range []string{d.name, d.name + lockSuffix} {
		if err := d.checkFile(name); err != nil {
			return err
		}
	}
	return d.takeLock(holder)
}

// checkFolder refuses a folder in which another user could replace the file.
func (d *disk) checkFolder() error {
	info, err := d.root.Stat(".")
	if err != nil {
		return unusable("has a folder that cannot be read", err, "check the folder")
	}
	switch uid, own := owner(info); {
	case !own:
		return &Error{Problem: fmt.Sprintf("is in a folder of user %d, and this process runs as user %d", uid, os.Geteuid()), Remedy: "run the program as that user, or give a folder of this one"}
	case info.Mode().Perm()&0o022 != 0:
		return &Error{Problem: fmt.Sprintf("is in a folder that others may write to (mode %04o)", info.Mode().Perm()), Remedy: "give a folder of its own, made by mkdir -m 700, or take that right away by chmod go-w"}
	}
	return nil
}

// checkFile returns an error if name is not a regular file, belongs to another user, or can be opened
// by others. It accepts a file that does not exist.
func (d *disk) checkFile(name string) error {
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unusable("cannot be read", err, "check the file and its folder")
	}
	subject := ""
	if name != d.name {
		subject = "has a lock file, " + name + ", that "
	}
	switch uid, own := owner(info); {
	case info.Mode()&fs.ModeSymlink != 0:
		return &Error{Problem: subject + "is a symbolic link", Remedy: "give the path of the file itself"}
	case info.IsDir():
		return &Error{Problem: subject + "is a folder", Remedy: "give the path of a file in it"}
	case !info.Mode().IsRegular():
		return &Error{Problem: subject + "is a pipe, socket or device", Remedy: "give the path of a file"}
	case !own:
		return &Error{Problem: fmt.Sprintf("%sbelongs to user %d, and this process runs as user %d", subject, uid, os.Geteuid()), Remedy: "run the program as that user"}
	case info.Mode().Perm()&0o077 != 0:
		return &Error{Problem: fmt.Sprintf("%scan be opened by others (mode %04o)", subject, info.Mode().Perm()), Remedy: "chmod 600 the file, and replace its secrets if others may have read them"}
	}
	return nil
}

// owner returns the user that a file belongs to, and whether this process runs as that user.
func owner(info fs.FileInfo) (uid int, own bool) {
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Uid) == os.Geteuid()
}

// takeLock locks the lock file, which is beside the state file. The lock file is never renamed or
// removed, so all processes lock the same file. The system unlocks it when the process ends.
func (d *disk) takeLock(holder string) error {
	file, err := d.root.OpenFile(d.name+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return unusable("has a lock file that cannot be opened", err, "check the folder")
	}
	d.lock = file
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		who, _ := io.ReadAll(io.LimitReader(file, 200)) // if this fails, the error names no process
		return inUse(strings.TrimSpace(string(who)))
	} else if err != nil {
		return unusable("cannot be locked", err, "give a folder on a local disk")
	}
	if err := file.Chmod(0o600); err != nil { // the umask may have removed rights
		return unusable("has a lock file that cannot be changed", err, "check the folder")
	}
	// The text is for people, and waiting processes see by it that another process has got the
	// file. Nothing else depends on it, so errors are ignored, for example those of a full disk.
	_ = file.Truncate(0)
	_, _ = fmt.Fprintf(file, "process %d (%s, since %s)\n", os.Getpid(), holder, time.Now().UTC().Format(time.RFC3339))
	return nil
}
