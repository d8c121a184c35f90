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

	// go test caches results and does not know which packages the program is built
	// from. These imports make it run the tests again when those packages change.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy/admin"
)

var update = flag.Bool("update", false, "write the table in README.md")

// binary names the environment variable that has the path of the built program.
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
	// A fault takes time but little CPU, so more faults are tried at once than there
	// are CPUs.
	_ = flag.Set("test.parallel", "12")
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}
