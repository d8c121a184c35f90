package config

import (
	"strconv"
	"strings"
)

// A Fault is one thing that is wrong with the settings. None of its texts has
// a line break, or the value of a secret.
type Fault struct {
	Name    string // the variable
	Problem string // what is wrong with it
	Remedy  string // what to do
}

// Error returns the fault as one line: NAME: what is wrong; what to do.
func (f Fault) Error() string { return f.Name + ": " + f.Problem + "; " + f.Remedy }

// Faults is everything that is wrong with the settings, or with SEED_FILE. As an error that
// [Load] or [ReadSeed] returned it has at least one.
type Faults []Fault

// Error returns one line for each fault, without a line break at the end.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// quote returns value in quotes, on one line, and short enough to read.
func quote(value string) string {
	const enough = 60
	if len(value) > enough {
		value = value[:enough] + "…"
	}
	return strconv.Quote(value)
}
