//go:build unix

package budget_test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	// go test caches results and does not know which packages the program is built
	// from. These imports make it run the tests again when those packages change.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) {
	redis.SetLogger(&logging.VoidLogger{}) // as the program does
	os.Exit(testkit.Main(m))
}
