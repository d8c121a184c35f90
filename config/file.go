package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// A File is a file that a setting names. The file is read again when it has changed. A
// File is not safe for concurrent use.
type File struct {
	name    string // of the variable
	path    string
	limit   int64  // bytes
	shorten string // the remedy if the file is larger than limit

	info     fs.FileInfo // of the file at the last read; nil if that read failed
	readAt   time.Time
	returned [sha256.Size]byte  // hash of the content that was returned last
	pending  *[sha256.Size]byte // hash of newer content that was read once; nil if there is none
}

// seedLimit is how many bytes a seed file may have. A portal takes about 100.
const seedLimit = 4 << 20

// ShortenSeed is the remedy for a seed file that is too large.
const ShortenSeed = "remove entries that are not needed, or connect portals with the portal command"

// SeedFile returns the file of SEED_FILE at path.
func SeedFile(path string) *File {
	return &File{name: "SEED_FILE", path: path, limit: seedLimit, shorten: ShortenSeed}
}

// Read returns the file's content, or the fault of a file that cannot be used.
func (f *File) Read() ([]byte, Faults) {
	content, sum, faults := f.read()
	if faults == nil {
		f.returned, f.pending = sum, nil
	}
	return content, faults
}

// Changed returns the file's content if the content differs from the content that was
// returned last, and was the same at the previous call. So Changed does not return a
// file that is still being written. If changed is false, content is nil.
//
// Changed does not read the file if its size, time and identity are those of the last read.
func (f *File) Changed() (content []byte, changed bool, faults Faults) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, false, Faults{unreadable(f.name, f.path, err)}
	}
	if f.pending == nil && f.same(info) {
		return nil, false, nil
	}
	content, sum, faults := f.read()
	switch {
	case faults != nil:
		return nil, false, faults
	case sum == f.returned:
		f.pending = nil
	case f.pending != nil && sum == *f.pending:
		f.returned, f.pending = sum, nil
		return content, true, nil
	default:
		f.pending = &sum
	}
	return nil, false, nil
}

// minAge is how old a file must have been when it was read, so that its modification time
// identifies its content. A younger file could change without a change of that time,
// because file systems store it in steps of up to 2 s.
const minAge = 3 * time.Second

// same reports whether the file is certainly unchanged since it was read.
func (f *File) same(info fs.FileInfo) bool {
	return f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && f.readAt.Sub(info.ModTime()) > minAge
}

// read reads the file. A file that is too large, or not a regular one, is a fault.
func (f *File) read() (content []byte, sum [sha256.Size]byte, faults Faults) {
	f.info, f.readAt = nil, time.Now()
	file, info, faults := f.open()
	if faults != nil {
		return nil, sum, faults
	}
	defer func() { _ = file.Close() }() // nothing was written
	var err error
	if info.Size() <= f.limit {
		// io.ReadAll is not used, because its buffer would be twice as large.
		buffer := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
		_, err = buffer.ReadFrom(io.LimitReader(file, f.limit+1))
		content = buffer.Bytes()
	}
	switch {
	case err != nil:
		return nil, sum, Faults{unreadable(f.name, f.path, err)}
	case max(info.Size(), int64(len(content))) > f.limit:
		return nil, sum, Faults{{f.name, "has more than " + size(f.limit), f.shorten}}
	}
	f.info = info
	return content, sha256.Sum256(content), nil
}

// open opens the file. A file that is missing, may not be read, or is not a regular file is
// a fault.
func (f *File) open() (*os.File, fs.FileInfo, Faults) {
	if fault := notRegular(f.name, f.path); fault != nil {
		return nil, nil, Faults{*fault}
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, Faults{unreadable(f.name, f.path, err)}
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = syscall.EISDIR
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, nil, Faults{unreadable(f.name, f.path, err)}
	}
	return file, info, nil
}

func size(bytes int64) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

// notRegular returns a fault if the path is that of a pipe or a device, which cannot be read
// repeatedly, and which could block when it is opened.
func notRegular(name, path string) *Fault {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode().IsRegular() {
		return nil // opening or reading the file reports other faults
	}
	return &Fault{name, quotePath(path) + " is a pipe or a device", "give the path of a regular file, because the file is read again when it changes"}
}

// unreadable returns the fault of the variable name if its file at path could not be read.
func unreadable(name, path string, err error) Fault {
	// A PathError quotes the path, which may contain a line break or a secret.
	if wrapper, ok := errors.AsType[*fs.PathError](err); ok {
		err = wrapper.Err
	}
	return Fault{name, fmt.Sprintf("cannot read %s: %v", quotePath(path), err), "give the path of a file that this process may read"}
}
