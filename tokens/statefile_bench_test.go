//go:build unix

package tokens_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/store/statefile"
)

// BenchmarkRenewalInAStateFile is the write of a renewed token, where the file has 10,000 sealed
// portals, and is written anew now and then.
func BenchmarkRenewalInAStateFile(b *testing.B) {
	const portals = 10_000
	client, end, err := store.EmbeddedIn(b.Context(), statePath(b), statefile.Options{Holder: "benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := end(); err != nil {
			b.Error(err)
		}
	})
	connectMany(b, manySource(b, client), portals)
	ring, _ := seal.Parse(benchmarkRing)
	s := store.New(store.Database{Redis: client, Prefix: "hubspot:"}, ring, time.Now)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		portal := strconv.Itoa(i%portals + 1)
		old, err := s.Load(context.Background(), portal)
		if err != nil {
			b.Fatal(err)
		}
		renewed := old
		renewed.Secret, renewed.App = secret.New(strings.Repeat("x", 250)+strconv.Itoa(i)), hubspottest.ClientID
		began := time.Now()
		if _, err := s.Write(context.Background(), portal, store.Change{Record: renewed, Numbering: store.Renew, Replaces: &old}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)-1].Seconds()*1e3, "ms-longest")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "ms-99%")
}
