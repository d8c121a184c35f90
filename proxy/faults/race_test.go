//go:build race

package faults

// buildFlags build the program with the race detector, as the tests are.
var buildFlags = []string{"-race"}
