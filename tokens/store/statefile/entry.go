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

// An entry is the whole content of a key. A later entry of the same key replaces it.
type entry struct {
	kind    string
	key     string
	expires int64    // ms since 1970; 0 means never
	values  []string // a string's value, or a hash's fields and values
}

// A saved entry is one as the file has it.
type saved struct {
	line    string
	expires int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(body string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli))
}

// line returns the entry as a line of the file.
func (e entry) line() string {
	body := fmt.Appendf(nil, "%s %d %q", e.kind, e.expires, e.key)
	for _, value := range e.values {
		body = strconv.AppendQuote(append(body, ' '), value)
	}
	return fmt.Sprintf("%s %d %s\n", checksum(string(body)), len(body), body)
}

// parse reads a line, without its line break.
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

// split takes the parts of a line apart.
func split(line string) (sum, body string, length int, found bool) {
	sum, rest, _ := strings.Cut(line, " ")
	digits, body, found := strings.Cut(rest, " ")
	length, err := strconv.Atoi(digits)
	return sum, body, length, found && err == nil
}

// unquote reads one quoted text or more, separated by spaces.
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

// read returns the keys of a file's content, and the length of its part that is whole. What
// follows that part is the start of an entry whose write was interrupted: its command was
// never answered. Anything else that is wrong is an [*Error].
func read(content []byte) (kept map[string]saved, whole int, err error) {
	if !bytes.HasPrefix(content, []byte(header)) {
		return nil, 0, noHeader(content)
	}
	kept = map[string]saved{}
	// After a power failure, a file system may have the length of a write and not its bytes.
	// An entry ends in a line break, never in a zero.
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

// longestPrefix is how many bytes come before an entry's body at most.
const longestPrefix = len("01234567 ") + len("9223372036854775807 ")

// interrupted reports whether a line without a line break is the start of a longer one.
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
