package nodesdk_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// The proxy refuses calls that would have to wait, in HubSpot's words.
func TestTheOfficialNodeSDKBacksOffWhenTheProxyRefusesACall(t *testing.T) {
	needNode(t)
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	serveCRM(t, hub)
	const token = "pat-na1-" + hubspottest.Canary
	const seed = `
clients:
- {name: many, key: ` + keyOfMany + `, portals: ["*"]}
- {name: limited, key: ` + keyOfOne + `, portals: ["*"], daily_limit: 1}
portals:
- {id: 1, access_token: ` + token + `-1}
- {id: 2, access_token: ` + token + `-2}
- {id: 3, access_token: ` + token + `-3}
`
	file := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(file, []byte(seed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, portal := range []string{"1", "2", "3"} {
		hub.SetAccessToken(portal, token+"-"+portal)
		hub.SetLimits(portal, hubspottest.Limits{Burst: 4, Interval: time.Second, Search: 5})
	}
	url := start(t, build(t), hub, "SEED_FILE="+file, "RATE_LIMIT_WAIT=1ms", "ALLOW_ANONYMOUS=false")
	runScript(t, "limits.mjs", "TOKEN="+keyOfMany, "TOKEN_OF_DAILY="+keyOfOne,
		"BURST="+url+"/portals/1", "SEARCH="+url+"/portals/2", "DAILY="+url+"/portals/3")
}
