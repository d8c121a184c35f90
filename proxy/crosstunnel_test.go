package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
)

// In tunnels only the key that the tunnel was opened with counts: each client's
// requests have other clients' keys inside, and other servers' names.
func TestNoBytesInATunnelGetAnotherPortalsCredential(t *testing.T) {
	n := volume(4000, 400)
	seed := rand.Uint64()
	t.Logf("the seed is %d", seed)
	set, trusted := intercepting(t)
	c := startKeyed(t, set, func(o *proxy.Options) { o.DefaultPortal = keyPortal })
	names := []string{"one", "reader", "static", "two"}
	arrived := c.watchRights()
	together(t, n, 4, func(i int) error {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		pick := func(options ...string) string { return options[random.IntN(len(options))] }
		client := pick(names...)
		text, complete := attack(random, pick("all", "one", "static", client), fmt.Sprintf("mark-%s-%d", client, i))
		text = strings.ReplaceAll(text, "\r\nHost: localhost\r\n", "\r\nHost: "+pick(tunnelName, tunnelName, tunnelName, "api.hubapi.com:443", "localhost", "62517.localhost", "api.hubspot.com")+"\r\n")
		text = strings.ReplaceAll(text, " http://62516", " https://"+tunnelName)
		for name, key := range c.key {
			text = strings.ReplaceAll(text, "{"+name+"}", key)
		}
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		authorization := basic(pick("", "", "", "62515", "62516", "62517", "1", "x", "062517"), c.key[client])
		if random.IntN(4) == 0 {
			authorization = "Bearer " + c.key[client]
		}
		inside, err := tunnel(conn, trusted, authorization)
		if err != nil {
			return err
		}
		if err := attackedOn(inside, text, complete); err != nil {
			return fmt.Errorf("%w, to %q", err, text)
		}
		return arrived.fault(text)
	})
	arrived.check(t, n/20)
}
