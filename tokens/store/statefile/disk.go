//go:build unix

package statefile

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
)

// A disk is the state file and what is beside it. Its methods are called one at a time, except
// for prepare, which may run beside append.
type disk struct {
	root *os.Root // the folder
	name string   // of the state file in it
	lock *os.File
	file *os.File // open to append
	size int64    // of file

	// broken is why nothing can be appended: after a write or a sync has failed, nobody knows
	// what the file has behind its last whole entry. It is written anew then.
	broken error
}

// load opens the file, and returns its keys and how many bytes of an interrupted entry it has
// dropped. A missing file is made.
func (d *disk) load() (kept map[string]saved, dropped int, err error) {
	d.file, err = d.root.OpenFile(d.name, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]saved{}, 0, d.create()
	}
	if err != nil {
		return nil, 0, unusable("cannot be opened", err, "check the file and its folder")
	}
	content, err := io.ReadAll(d.file)
	if err != nil {
		return nil, 0, unusable("cannot be read", err, "check the disk")
	}
	kept, whole, err := read(content)
	if err != nil {
		return nil, 0, err
	}
	d.size, dropped = int64(whole), len(content)-whole
	if dropped > 0 {
		err = errors.Join(d.file.Truncate(d.size), d.file.Sync())
	}
	if err != nil {
		return nil, 0, unusable("cannot be written", err, spaceRemedy)
	}
	return kept, dropped, nil
}

func (d *disk) create() error {
	next, err := d.prepare(nil)
	if err == nil {
		err = d.replace(next, "")
	}
	if err != nil {
		return unusable("cannot be written", err, spaceRemedy)
	}
	return nil
}

// append writes lines to the end of the file, and returns when they are on the disk.
func (d *disk) append(lines string) error {
	if d.broken != nil {
		return d.broken
	}
	n, err := d.file.WriteString(lines)
	d.size += int64(n)
	if err == nil {
		err = d.file.Sync()
	}
	d.broken = err
	return err
}

// prepare writes lines to a file beside the state file, and returns it when they are on the
// disk.
func (d *disk) prepare(lines []string) (next *os.File, err error) {
	if err := d.root.Remove(d.name + nextSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // of a process that was killed
	}
	next, err = d.root.OpenFile(d.name+nextSuffix, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = next.Chmod(0o600); err == nil { // whatever the umask
		err = writeLines(next, lines)
	}
	if err != nil {
		d.discard(next)
		return nil, err
	}
	return next, nil
}

func writeLines(file *os.File, lines []string) error {
	w := bufio.NewWriterSize(file, 1<<16)
	_, _ = w.WriteString(header) // Flush returns the error
	for _, line := range lines {
		_, _ = w.WriteString(line)
	}
	return errors.Join(w.Flush(), file.Sync())
}

// replace appends more lines to a file that prepare has returned, and puts it in the place of
// the state file.
func (d *disk) replace(next *os.File, more string) error {
	_, err := next.WriteString(more)
	if err == nil {
		err = next.Sync()
	}
	size, seekErr := next.Seek(0, io.SeekEnd)
	if err = errors.Join(err, seekErr); err == nil {
		err = d.root.Rename(d.name+nextSuffix, d.name)
	}
	if err != nil {
		d.discard(next)
		return err
	}
	if d.file != nil {
		_ = d.file.Close() // nobody uses it any more
	}
	d.file, d.size = next, size
	d.broken = d.syncFolder()
	return d.broken
}

func (d *disk) discard(next *os.File) {
	_ = next.Close()
	_ = d.root.Remove(d.name + nextSuffix) // else the next prepare does
}

// syncFolder returns when a rename is on the disk.
func (d *disk) syncFolder() error {
	folder, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // nothing was written to it
	return folder.Sync()
}

// close closes what is open. The system unlocks the lock file with that.
func (d *disk) close() {
	for _, file := range []*os.File{d.file, d.lock} {
		if file != nil {
			_ = file.Close() // what was written is on the disk already
		}
	}
	_ = d.root.Close()
}
