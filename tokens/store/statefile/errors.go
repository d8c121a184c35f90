package statefile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// An Error says why a state file cannot be used. Its texts have nothing of the file's content.
type Error struct {
	// Problem goes on after the name of the file or of its setting, such as "is damaged in
	// line 17". Remedy says what to do.
	Problem, Remedy string

	// InUse reports that another process has the file.
	InUse bool
}

// Error returns the problem and what to do.
func (e *Error) Error() string { return e.Problem + "; " + e.Remedy }

// IsInUse reports whether err says that another process has the file.
func IsInUse(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.InUse
}

const spaceRemedy = "free space on the disk, and check that this user may write to the folder"

// inUse names the process that has the file, as that process has written it to the lock file.
func inUse(who string) *Error {
	if who == "" {
		who = "another process"
	}
	return &Error{Problem: "is in use by " + who, Remedy: "stop that process, or give this one a file of its own", InUse: true}
}

// unusable leaves out the path that the system's error quotes: the caller names the file.
func unusable(problem string, err error, remedy string) *Error {
	return &Error{Problem: problem + ": " + cause(err).Error(), Remedy: remedy}
}

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
