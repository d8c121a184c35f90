package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/testkit"
)

func TestAFaultOfTheSeedFileIsReportedUntilItIsFixed(t *testing.T) {
	t.Parallel()
	const good = "portals:\n- {id: 62515, access_token: " + staticToken + "}\n"
	m := newMount(t, good)
	admin := freePort(t)
	launch(t, "serve", "SEED_FILE="+m.path(), "ADMIN_ADDR="+admin).address()
	reports := func(what, ready, metric string) {
		t.Helper()
		testkit.Eventually(t, what, func() bool {
			status, body := get(t, "http://"+admin+"/readyz")
			_, metrics := get(t, "http://"+admin+"/metrics")
			wantNoSecret(t, body)
			return status == http.StatusOK && strings.Contains(body, ready) && strings.Contains(metrics, "\nhubspot_auth_proxy_faulty_seeds "+metric+"\n")
		})
	}
	reports("no fault is reported", `"seed":"applied"`, "0")
	m.put("portals:\n- {id: " + staticToken + ", access_token: x}\n- {id: x, access_token: x}\n")
	reports("both faults are reported", `"seed":"faulty","seed_fault":"SEED_FILE: line 2, column 8: `, "1")
	reports("both faults are reported", `\nSEED_FILE: line 3, column 8: `, "1")
	if _, page := get(t, "http://"+admin+"/"); !strings.Contains(page, "SEED_FILE: line 2, column 8: ") || !strings.Contains(page, "SEED_FILE: line 3, column 8: ") {
		t.Errorf("the page does not report the faults: %s", page)
	}
	m.put(good)
	reports("the fault is fixed", `"seed":"applied"`, "0")
	if err := os.Rename(m.path(), m.path()+"-moved"); err != nil {
		t.Fatal(err)
	}
	reports("the file is missing", `"seed_fault":"SEED_FILE: cannot read`, "1")
	if err := os.Rename(m.path()+"-moved", m.path()); err != nil {
		t.Fatal(err)
	}
	reports("the file is back", `"seed":"applied"`, "0")
}
