package store

import (
	"testing"

	"hubspot-auth-proxy/tokens/store/statefile"
)

func TestAStateFileTakesEveryCommandThatTheProgramSends(t *testing.T) {
	t.Parallel()
	for _, command := range commands() {
		if command != "select" && !statefile.Knows(command) { // there is one database only
			t.Errorf("statefile refuses %s: if the command writes, statefile must know its keys", command)
		}
	}
}
