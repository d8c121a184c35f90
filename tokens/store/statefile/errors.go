package statefile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// An Error is the reason for which a state file cannot be used. Its text contains nothing of the
// file's content.
type Error struct {
	// Problem continues a sentence that begins with the file's path or with STATE_FILE, for
	// example "is damaged in line 17". Remedy says what the operator has to do.
	Problem, Remedy string

	// InUse means that another process uses the file.
	InUse bool
}

// Error returns the problem and the remedy.
func (e *Error) Error() string { return e.Problem + "; " + e.Remedy }

// IsInUse reports whether err means that another process uses the file.
func IsInUse(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.InUse
}

const spaceRemedy = "free space on the disk, and check that this user may write to the folder"

// inUse returns the error for a file that another process uses. who is the text that this process has
// written to the lock file; it may be empty.
func inUse(who string) *Error {
	if who == "" {
		who = "another process"
	}
	return &Error{Problem: "is in use by " + who, Remedy: "stop that process, or give this one a file of its own", InUse: true}
}

// unusable returns an [*Error] for an error of the system, without the path in that error's text.
func unusable(problem string, err error, remedy string) *Error {
	return &Error{Problem: problem + ": " + cause(err).Error(), Remedy: remedy}
}

// cause returns the part of an error of the system that contains no path.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number
	}
	return err
}
