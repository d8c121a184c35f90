package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fault is one row of the table: what breaks, and the function that breaks it.
type fault struct {
	what string
	try  func(t *testing.T) outcome
}

// outcome has the other columns of a row. Each fault's test checks what they say.
type outcome struct{ client, hubspot, recovery string }

// family is a group of faults of one part. Each family has its own table. The function
// faults may start processes that all of them share.
type family struct {
	name   string
	faults func(t *testing.T) []fault
}

// page is the document that consists of the tables.
const page = "README.md"

const introduction = `# What happens when something breaks

` + "`go test ./proxy/faults`" + ` runs two processes of the program with a real Redis, breaks each of these parts, and compares what clients and
HubSpot saw with this page. With ` + "`-update`" + `, it writes this page. During all faults:

* HubSpot got no POST, PATCH, PUT or DELETE twice, except those that it had answered 401;
* no client got an answer for another portal;
* no refresh token was lost, unless the table says so: after each fault all access tokens were made to expire, and every portal was served
  by every process, and by a new one.

"HubSpot rotates" means that each renewal makes the refresh token that was used for it invalid. HubSpot is not known to do so today. A request
that is under way while its token expires, and whose token cannot be renewed, may get HubSpot's 401.
`

const columns = `
| fault | the client sees | HubSpot sees | recovers within |
|---|---|---|---|
`

func allFamilies() []family {
	return []family{
		{"Redis", redisFaults}, {"Redis Cluster", clusterFaults}, {"A process is killed", killedFaults},
		{"HubSpot's token endpoint", endpointFaults}, {"Grants", grantFaults}, {"Settings", settingsFaults}, {"HubSpot's API", upstreamFaults}, {"Clients", clientFaults},
	}
}

func TestEachFaultHasTheDocumentedEffect(t *testing.T) {
	families := allFamilies()
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

// row is one row of a table. The zero value means that the fault was not tried.
type row struct {
	what string
	outcome
}

func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s |\n", r.what, r.client, r.hubspot, r.recovery)
}

// compare compares the page with the rows of the faults that were tried. A family of
// which no fault was tried has no rows.
func compare(t *testing.T, seen [][]row) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	documented := string(content)
	all := !slices.ContainsFunc(seen, func(rows []row) bool { return rows == nil || slices.Contains(rows, row{}) })
	var text strings.Builder
	text.WriteString(introduction)
	for i, family := range allFamilies() {
		name := strings.ReplaceAll(family.name, " ", "_")
		fmt.Fprintf(&text, "\n## %s\n\nShown by `TestEachFaultHasTheDocumentedEffect/each/%s`.\n%s", family.name, name, columns)
		for _, r := range seen[i] {
			text.WriteString(r.String())
			if !all && r != (row{}) && !strings.Contains(documented, r.String()) {
				t.Errorf("%s does not have the row that was seen:\n%s", page, r)
			}
		}
	}
	switch {
	case *update && all:
		if err := os.WriteFile(page, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	case *update:
		t.Errorf("not all faults were tried: %s is left as it is", page)
	case all && documented != text.String():
		t.Errorf("%s differs from what was seen; go test ./proxy/faults -update writes it (-page +seen):\n%s", page, cmp.Diff(documented, text.String()))
	}
}
