//go:build unix

package statefile

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
)

// A disk is the state file and the files beside it. Its methods must be called one at a time, except
// that append may be called while prepare runs.
type disk struct {
	root *os.Root // the folder
	name string   // the name of the state file in the folder
	lock *os.File
	file *os.File // the state file, open for appending
	size int64    // the size of the state file, in bytes

	// broken is the error of the last write or sync, or nil if that has succeeded. After an
	// error, it is not known what the file contains after its last complete entry. So nothing
	// is appended until the file was written anew.
	broken error
}

// load opens the state file and returns its current entries, by key. If the file does not exist, load
// creates it. dropped is the number of bytes of an incomplete entry that load has removed from the
// end. load also removes the next state file that a killed process may have left, because that file
// has a copy of the secrets. The error is an [*Error].
func (d *disk) load() (kept map[string]saved, dropped int, err error) {
	_ = d.root.Remove(d.name + nextSuffix) // if this fails, prepare returns the error
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

// append writes lines to the end of the state file, and returns when they are on the disk.
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

// prepare creates the next state file, beside the current one, with these lines. It returns the file
// when the lines are on the disk.
func (d *disk) prepare(lines []string) (next *os.File, err error) {
	if err := d.root.Remove(d.name + nextSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // the file that a killed process has left cannot be removed
	}
	next, err = d.root.OpenFile(d.name+nextSuffix, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = next.Chmod(0o600); err == nil { // the umask may have removed rights
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

// replace appends more lines to next, the file that prepare has returned, and renames it, so that it
// replaces the state file. It returns when the lines and the rename are on the disk.
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
		_ = d.file.Close() // the former file is not used any more
	}
	d.file, d.size = next, size
	d.broken = d.syncFolder()
	return d.broken
}

func (d *disk) discard(next *os.File) {
	_ = next.Close()
	_ = d.root.Remove(d.name + nextSuffix) // if this fails, the next prepare removes the file
}

// syncFolder waits until renames in the folder are on the disk.
func (d *disk) syncFolder() error {
	folder, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // nothing was written to it
	return folder.Sync()
}

// close closes all open files. When the lock file is closed, the system unlocks it.
func (d *disk) close() {
	for _, file := range []*os.File{d.file, d.lock} {
		if file != nil {
			_ = file.Close() // append and replace have synced every write
		}
	}
	_ = d.root.Close()
}
