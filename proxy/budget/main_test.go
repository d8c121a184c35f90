//go:build unix

package budget_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	// For go test, which does not know what the program is built of, to run these
	// again when that has changed.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy"
)

// binary is the environment variable that has the program's path.
const binary = "HUBSPOT_AUTH_PROXY_BINARY"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	redis.SetLogger(&logging.VoidLogger{}) // as the program does
	dir, err := os.MkdirTemp("", "budget")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hubspot-auth-proxy")
	build := exec.Command("go", "build", "-o", path, "hubspot-auth-proxy/cmd/hubspot-auth-proxy")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the program:", err)
		return 1
	}
	_ = os.Setenv(binary, path)
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}
