package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// runMain makes the test binary be the program, for tests that want a process.
const runMain = "HUBSPOT_AUTH_PROXY_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"hubspot-auth-proxy": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
