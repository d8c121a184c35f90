package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// A File is a file that a setting names, read again when it has changed. It is
// not safe for concurrent use.
type File struct {
	name  string // of the variable
	path  string
	limit int64

	info    fs.FileInfo // when it was read last
	readAt  time.Time
	known   [sha256.Size]byte  // hash of the content that was returned last
	pending *[sha256.Size]byte // hash of another one, read once; nil: there is none
}

// SeedFile returns the file for [ParseSeed] at path.
func SeedFile(path string) *File { return &File{name: seedFile, path: path, limit: seedLimit} }

// Read returns the file's content. The error is [Faults].
func (f *File) Read() ([]byte, error) {
	content, sum, err := f.read()
	if err == nil {
		f.known, f.pending = sum, nil
	}
	return content, err
}

// Changed reports whether the file has another content than was returned last,
// and had it at the last call as well: one that is just being written is not
// finished. The error is [Faults].
//
// The file is not read where the system says that it is the same as it was.
func (f *File) Changed() (content []byte, changed bool, err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, false, Faults{unreadable(f.name, f.path, err)}
	}
	if f.pending == nil && f.same(info) {
		return nil, false, nil
	}
	content, sum, err := f.read()
	switch {
	case err != nil:
		return nil, false, err
	case sum == f.known:
		f.pending = nil
	case f.pending != nil && sum == *f.pending:
		f.known, f.pending = sum, nil
		return content, true, nil
	default:
		f.pending = &sum
	}
	return nil, false, nil
}

// settled is how long before it was read a file must have been written to be
// known by its time: file systems note that in steps, of up to 2 s.
const settled = 3 * time.Second

// same reports whether the file was not written since it was read.
func (f *File) same(info fs.FileInfo) bool {
	return f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && f.readAt.Sub(info.ModTime()) > settled
}

// read reads the file, unless it is too large or none that can be read again.
func (f *File) read() (content []byte, sum [sha256.Size]byte, err error) {
	f.info, f.readAt = nil, time.Now()
	if fault := notRegular(f.name, f.path); fault != nil {
		return nil, sum, Faults{*fault}
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, sum, Faults{unreadable(f.name, f.path, err)}
	}
	defer func() { _ = file.Close() }() // nothing was written
	info, err := file.Stat()
	if err == nil && info.Size() <= f.limit {
		// A buffer of the size, for ReadAll's would be twice as large.
		buffer := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
		_, err = buffer.ReadFrom(io.LimitReader(file, f.limit+1))
		content = buffer.Bytes()
	}
	switch {
	case err != nil:
		return nil, sum, Faults{unreadable(f.name, f.path, err)}
	case max(info.Size(), int64(len(content))) > f.limit:
		return nil, sum, Faults{{f.name, "has more than " + size(f.limit), tooLarge}}
	}
	f.info = info
	return content, sha256.Sum256(content), nil
}

func size(bytes int64) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

// notRegular returns a fault if the path names something that cannot be read
// again and again, such as a pipe, which even opening could wait for.
func notRegular(name, path string) *Fault {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode().IsRegular() {
		return nil // who opens it reports the others
	}
	return &Fault{name, quotePath(path) + " is not a file, but a pipe or device", "give the path of a file, which is read again when it changes"}
}

// unreadable tells why the file at path, which the variable name gives, could
// not be read.
func unreadable(name, path string, err error) Fault {
	// Only its cause: the path it quotes may hold a line break or a secret.
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	return Fault{name, fmt.Sprintf("cannot read %s: %v", quotePath(path), err), "give the path of a file that this process may read"}
}
