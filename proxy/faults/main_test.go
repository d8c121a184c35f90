package faults

import (
	"flag"
	"os"
	"testing"

	// go test caches results and does not know which packages the program is built
	// from. These imports make it run the tests again when those packages change.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/testkit"
)

var update = flag.Bool("update", false, "write the table in README.md")

func TestMain(m *testing.M) {
	// A fault takes time but little CPU, so more faults are tried at once than there
	// are CPUs.
	_ = flag.Set("test.parallel", "12")
	os.Exit(testkit.Main(m, buildFlags...))
}
