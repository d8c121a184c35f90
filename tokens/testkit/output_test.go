package testkit_test

import (
	"fmt"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/testkit"
)

func TestAnOutputKeepsAllBytesOrAtLeastTheLast(t *testing.T) {
	var all testkit.Output
	last := testkit.Output{Keep: 100}
	for i := range 1000 {
		fmt.Fprintln(&all, i)
		fmt.Fprintln(&last, i)
	}
	if text := all.String(); !strings.HasPrefix(text, "0\n1\n") || !strings.HasSuffix(text, "\n999\n") {
		t.Errorf("all: %d bytes", len(text))
	}
	if text := last.String(); len(text) < 100 || len(text) > 300 || !strings.HasSuffix(text, "\n998\n999\n") {
		t.Errorf("the last: %d bytes", len(text))
	}
}

func TestUntilWaitsForTheText(t *testing.T) {
	var o testkit.Output
	go fmt.Fprint(&o, "ready at :8080\n")
	if got := o.Until(t, `at (:\d+)\n`); got[1] != ":8080" {
		t.Errorf("%q", got)
	}
}
