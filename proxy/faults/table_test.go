package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fault is one thing that breaks.
type fault struct {
	what string
	try  func(t *testing.T) outcome
}

// outcome is what was seen of it, each part asserted by the test.
type outcome struct{ client, hubspot, well string }

// family is faults of one part. Its function may start what they share.
type family struct {
	name   string
	faults func(t *testing.T) []fault
}

// page is the document that has the table, and nothing else.
const page = "README.md"

const heading = `# What happens when something breaks

Seen by ` + "`go test ./proxy/faults`" + `, which breaks each of these in turn under real processes and a real Redis; ` + "`-update`" + ` writes this table.
In all of it HubSpot got no POST, PATCH, PUT or DELETE twice, but for those that it had answered 401, nobody got an answer of
another portal, and when all access tokens were made to expire afterwards, every portal was served by every process, and by a
new one: no refresh token was lost, unless the table says so. Where HubSpot is said to rotate, each renewal ends the refresh token
that it was done with, which HubSpot is not known to do. A request that is just under way as its token expires, and cannot be renewed,
may see HubSpot's 401.

| fault | the client sees | HubSpot sees | well again after |
|---|---|---|---|
`

func TestEachFaultIsAsThePageSays(t *testing.T) {
	families := []family{
		{"Redis", redisFaults}, {"Cluster", clusterFaults}, {"killed", killedFaults},
		{"token endpoint", endpointFaults}, {"grants", grantFaults}, {"HubSpot", upstreamFaults}, {"clients", clientFaults},
	}
	rows := make([][]row, len(families))
	t.Run("each", func(t *testing.T) {
		for i, family := range families {
			t.Run(family.name, func(t *testing.T) {
				t.Parallel()
				faults := family.faults(t)
				rows[i] = make([]row, len(faults))
				for j, f := range faults {
					t.Run(f.what, func(t *testing.T) {
						t.Parallel()
						rows[i][j] = row{f.what, f.try(t)}
					})
				}
			})
		}
	})
	if !t.Failed() {
		compare(t, rows)
	}
}

// row is a line of the table. The zero value is a fault that was not tried.
type row struct {
	what string
	outcome
}

func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s |\n", r.what, r.client, r.hubspot, r.well)
}

// compare compares the page with what was seen, as far as it was tried. A
// family of which nothing was tried has no rows.
func compare(t *testing.T, families [][]row) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	documented := string(text)
	all := !slices.ContainsFunc(families, func(rows []row) bool { return rows == nil || slices.Contains(rows, row{}) })
	seen := heading
	for _, r := range slices.Concat(families...) {
		seen += r.String()
		if !all && r != (row{}) && !strings.Contains(documented, r.String()) {
			t.Errorf("%s does not say what was seen:\n%s", page, r)
		}
	}
	switch {
	case *update && all:
		if err := os.WriteFile(page, []byte(seen), 0o644); err != nil {
			t.Fatal(err)
		}
	case *update:
		t.Errorf("not all faults were tried: %s is left as it is", page)
	case all && documented != seen:
		t.Errorf("%s differs from what was seen; go test ./proxy/faults -update writes it (-page +seen):\n%s", page, cmp.Diff(documented, seen))
	}
}
