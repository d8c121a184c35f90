//go:build unix

package redistest

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/testkit"
)

// A Cluster is a running Redis Cluster: its masters, in the order of their slots.
type Cluster []*Server

// StartCluster starts a Cluster of three masters, each with a third of the slots, and waits
// until all masters know each other. The servers are killed when the test ends.
// StartCluster skips the test if redis-server is too old. If redis-server is missing, it
// skips or fails the test as [testkit.Need] does.
func StartCluster(tb testing.TB) Cluster {
	tb.Helper()
	option := With("--cluster-enabled", "yes", "--cluster-port", "%FREE%", "--cluster-config-file", "nodes-%PORT%.conf", "--cluster-node-timeout", "2000")
	c := Cluster{Start(tb, option), Start(tb, option), Start(tb, option)}
	for i, server := range c {
		server.Do("cluster", "set-config-epoch", i+1)
		if err := server.Client(tb).(*redis.Client).ClusterAddSlotsRange(tb.Context(), i*slotsEach, min((i+1)*slotsEach, slots)-1).Err(); err != nil {
			tb.Skipf("this redis-server has no CLUSTER ADDSLOTSRANGE: %v", err)
		}
		host, port, _ := net.SplitHostPort(server.Addr)
		_, bus, _ := strings.Cut(server.Do("config", "get", "cluster-port"), " ")
		c[0].Do("cluster", "meet", host, port, strings.TrimSuffix(bus, "]"))
	}
	for _, server := range c {
		testkit.Within(tb, 2*startTime, "the Cluster is complete", func() bool {
			info := server.Do("cluster", "info")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return c
}

const (
	slots     = 16384
	slotsEach = slots/3 + 1
)

// SlotOf returns the slot of a key.
func (c Cluster) SlotOf(key string) int {
	slot, _ := strconv.Atoi(c[0].Do("cluster", "keyslot", key))
	return slot
}

// MoveSlot moves a slot to the next master, as redis-cli --cluster reshard does. MoveSlot
// calls meanwhile twice. In the first call, the old master still has the slot's keys, and new
// keys belong to the new master. In the second call, all keys have moved, and the masters
// still report the old master to clients.
func (c Cluster) MoveSlot(slot int, meanwhile func()) {
	from := slot / slotsEach
	source, target := c[from], c[(from+1)%len(c)]
	targetID := target.Do("cluster", "myid")
	target.Do("cluster", "setslot", slot, "importing", source.Do("cluster", "myid"))
	source.Do("cluster", "setslot", slot, "migrating", targetID)
	meanwhile()
	host, port, _ := net.SplitHostPort(target.Addr)
	for {
		keys := strings.Fields(strings.Trim(source.Do("cluster", "getkeysinslot", slot, 100), "[]"))
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			source.Do("migrate", host, port, key, 0, 5000)
		}
	}
	meanwhile()
	for _, server := range []*Server{target, source} {
		server.Do("cluster", "setslot", slot, "node", targetID)
	}
}
