package config

import (
	"strconv"
	"strings"
)

// A Fault is one error in the settings. Its texts contain no line breaks and no secrets.
type Fault struct {
	Name    string // the variable
	Problem string // what is wrong
	Remedy  string // how to correct it
}

// Error returns the fault as one line: "NAME: problem; remedy".
func (f Fault) Error() string { return f.Name + ": " + f.Problem + "; " + f.Remedy }

// Faults are all errors in the settings, or in SEED_FILE. If a function of this package
// returns Faults as an error, Faults has at least one element.
type Faults []Fault

// Error returns one line for each fault, without a line break at the end.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// quote returns value in quotes, on one line, cut to 60 bytes.
func quote(value string) string {
	const limit = 60
	if len(value) > limit {
		value = value[:limit] + "…"
	}
	return strconv.Quote(value)
}

// quotePath quotes only a text that begins like a path, because a common mistake is to set
// a NAME_FILE variable to the secret itself.
func quotePath(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") {
		return quote(path)
	}
	return "the file (path not shown, because it begins with neither / nor . and may be the secret itself)"
}

// theFile returns the words "the file" and what quotePath returns.
func theFile(path string) string {
	return "the file " + strings.TrimPrefix(quotePath(path), "the file ")
}
