package statefile

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// header is the first line of a state file.
const header = "hubspot-auth-proxy state 1\n"

const (
	kindString = "string"
	kindHash   = "hash"
	kindGone   = "gone" // the key was deleted
)

// An entry is the whole content of a key, or means that the key was deleted. A later entry of the
// same key replaces it.
type entry struct {
	kind    string
	key     string
	expires int64    // ms since 1970; 0 means never
	values  []string // a string's value, or a hash's fields and values
}

// saved is the current entry of a key in the file. The zero value means that there is none.
type saved struct {
	line    string // with its line break
	expires int64  // as in entry
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(body string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli))
}

// line returns the entry as a line of the file, with its line break.
func (e entry) line() string {
	body := fmt.Appendf(nil, "%s %d %q", e.kind, e.expires, e.key)
	for _, value := range e.values {
		body = strconv.AppendQuote(append(body, ' '), value)
	}
	return fmt.Sprintf("%s %d %s\n", checksum(string(body)), len(body), body)
}

// parse parses a line, which has no line break. It returns false if the line is damaged.
func parse(line string) (entry, bool) {
	sum, body, length, found := split(line)
	if !found || length != len(body) || sum != checksum(body) {
		return entry{}, false
	}
	kind, rest, _ := strings.Cut(body, " ")
	expires, rest, _ := strings.Cut(rest, " ")
	texts, ok := unquote(rest)
	if !ok {
		return entry{}, false
	}
	at, err := strconv.ParseInt(expires, 10, 64)
	e := entry{kind: kind, key: texts[0], expires: at, values: texts[1:]}
	return e, err == nil && e.complete()
}

// split splits a line into the checksum, the length and the body. length is the number in the line,
// which may differ from the length of body. found is false if the line lacks one of these parts.
func split(line string) (sum, body string, length int, found bool) {
	sum, rest, _ := strings.Cut(line, " ")
	digits, body, found := strings.Cut(rest, " ")
	length, err := strconv.Atoi(digits)
	return sum, body, length, found && err == nil
}

// unquote parses one or more quoted texts, with a space between two of them.
func unquote(line string) (texts []string, ok bool) {
	for {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, false
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, false
		}
		texts = append(texts, text)
		if len(line) == len(quoted) {
			return texts, true
		}
		if line[len(quoted)] != ' ' {
			return nil, false
		}
		line = line[len(quoted)+1:]
	}
}

// complete reports whether the entry has as many values as its kind needs.
func (e entry) complete() bool {
	switch e.kind {
	case kindString:
		return len(e.values) == 1
	case kindHash:
		return len(e.values) > 0 && len(e.values)%2 == 0
	case kindGone:
		return len(e.values) == 0
	}
	return false
}

// read returns the current entries of a file's content, by key. whole is the number of bytes up to
// the end of the last complete line. The bytes after that are the beginning of an entry whose write
// was interrupted. If there is any other damage, read returns an [*Error].
func read(content []byte) (kept map[string]saved, whole int, err error) {
	if !bytes.HasPrefix(content, []byte(header)) {
		return nil, 0, noHeader(content)
	}
	kept = map[string]saved{}
	// After a power failure, the file may have the length of a write, and zeros instead of its
	// last bytes. No complete entry ends in a zero.
	text := strings.TrimRight(string(content), "\x00")
	whole = len(header)
	for number := 2; ; number++ {
		line, _, found := strings.Cut(text[whole:], "\n")
		if !found {
			if !interrupted(line) {
				return nil, 0, damaged(number)
			}
			return kept, whole, nil
		}
		e, ok := parse(line)
		if !ok {
			return nil, 0, damaged(number)
		}
		whole += len(line) + 1
		if e.kind == kindGone {
			delete(kept, e.key)
		} else {
			kept[e.key] = saved{text[whole-len(line)-1 : whole], e.expires}
		}
	}
}

// longestPrefix is the greatest number of bytes before the body of an entry.
const longestPrefix = len("01234567 ") + len("9223372036854775807 ")

// interrupted reports whether line, which has no line break, can be the beginning of an entry.
func interrupted(line string) bool {
	_, body, length, found := split(line)
	if !found {
		return len(line) < longestPrefix
	}
	return len(body) <= length
}

const remedy = "put a backup of the file in its place, or move it away to begin without portals and client keys; it was not changed"

func damaged(line int) *Error {
	return &Error{Problem: fmt.Sprintf("is damaged in line %d", line), Remedy: remedy}
}

func noHeader(content []byte) *Error {
	switch {
	case len(content) == 0:
		return &Error{Problem: "is empty, which no state file is", Remedy: remedy}
	case bytes.HasPrefix(content, []byte("hubspot-auth-proxy state ")):
		return &Error{Problem: "was written by another version of this program", Remedy: "run that version; the file was not changed"}
	}
	return &Error{Problem: "is damaged in line 1, or is no state file", Remedy: remedy}
}
