//go:build race

package faults

// buildFlags build the program with the race detector, like the tests.
var buildFlags = []string{"-race"}
