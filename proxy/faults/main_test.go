package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	// For go test, which does not know what the program is built of, to run these
	// again when that has changed.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy/admin"
)

var update = flag.Bool("update", false, "write what was seen to README.md")

// binary is the environment variable that has the program's path.
const binary = "HUBSPOT_AUTH_PROXY_BINARY"

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hubspot-auth-proxy")
	build := exec.Command("go", slices.Concat([]string{"build", "-o", path}, buildFlags, []string{"hubspot-auth-proxy/cmd/hubspot-auth-proxy"})...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the program:", err)
		return 1
	}
	_ = os.Setenv(binary, path)
	// Faults take time, and little work: they are tried at once, unless the
	// command line says otherwise.
	_ = flag.Set("test.parallel", "12")
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}
