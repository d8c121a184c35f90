package seeding_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

const canary = "canary-5ecre7"

const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

const seedYAML = `# a comment
portals:
  - id: 62515
    name: Acme & Söhne
    refresh_token: eu1-r   # rotated by HubSpot
  - id: "9223372036854775807"
    access_token: 'pat-na1-a'
  - {id: 9007199254740993, api_key: "k"}
clients:
  - name: billing
    key_sha256: ` + hash + `
    portals: [62515, "9007199254740993"]
    read_only: true
  - name: ops
    key: hap_x
    portals:
      - "*"
    daily_limit: 50000
  - name: sync
    keys:
      - key: hap_y
      - {key_sha256: ` + hash2 + `, expires: 2027-01-31}
    portals: [1]
    paths: [/crm/v3/owners, "/"]
  - {name: soon, key: hap_z, portals: [1], expires: "2027-01-31T12:00:00+01:00"}
`

const seedJSON = `{"portals": [
	{"id": 62515, "name": "Acme & S\u00f6hne", "refresh_token": "eu1-r"},
	{"id": "9223372036854775807", "access_token": "pat-na1-a"},
	{"id": 9007199254740993, "api_key": "k"}
], "clients": [
	{"name": "billing", "key_sha256": "` + hash + `", "portals": [62515, "9007199254740993"], "read_only": true},
	{"name": "ops", "key": "hap_x", "portals": ["*"], "daily_limit": 50000},
	{"name": "sync", "keys": [{"key": "hap_y"}, {"key_sha256": "` + hash2 + `", "expires": "2027-01-31"}], "portals": [1], "paths": ["/crm/v3/owners", "/"]},
	{"name": "soon", "key": "hap_z", "portals": [1], "expires": "2027-01-31T11:00:00Z"}
]}`

const hash2 = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"

// The test fills in the values that README.md abbreviates.
func TestTheSeedFileInTheDocumentIsRead(t *testing.T) {
	page, err := os.ReadFile("../../../config/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(rest, "```\n")
	if !found || !strings.Contains(text, "clients:") {
		t.Fatal("README.md has no seed file")
	}
	text = strings.NewReplacer("9f86d0…", hash, "{ key: hap_… }", "{ key: hap_other }", "…", "x").Replace(text)
	seed, faults := seeding.Parse([]byte(text))
	if faults != nil || len(seed.Portals) != 3 || len(seed.Clients) != 2 {
		t.Errorf("%v, %d portals, %d clients", faults, len(seed.Portals), len(seed.Clients))
	}
}

func TestASeedIsReadAsYAMLAndAsJSON(t *testing.T) {
	want := seeding.Seed{
		Portals: []tokens.Seed{
			{Portal: "62515", Name: "Acme & Söhne", Kind: tokens.OAuth, Secret: secret.New("eu1-r")},
			{Portal: "9223372036854775807", Kind: tokens.AccessToken, Secret: secret.New("pat-na1-a")},
			{Portal: "9007199254740993", Kind: tokens.APIKey, Secret: secret.New("k")},
		},
		Clients: []clients.Client{
			{Name: "billing", KeySHA256: hash, Portals: []string{"62515", "9007199254740993"}, ReadOnly: true},
			{Name: "ops", KeySHA256: clients.Hash(secret.New("hap_x")), Portals: []string{"*"}, DailyLimit: 50_000},
			{Name: "sync", KeySHA256: clients.Hash(secret.New("hap_y")), OlderKeys: []clients.Key{{SHA256: hash2, Expires: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}},
				Portals: []string{"1"}, Paths: []string{"/crm/v3/owners", "/"}},
			{Name: "soon", KeySHA256: clients.Hash(secret.New("hap_z")), Expires: time.Date(2027, 1, 31, 11, 0, 0, 0, time.UTC), Portals: []string{"1"}},
		},
		ShortKeys: []string{"ops", "sync", "soon"},
	}
	for name, content := range map[string]string{
		"YAML": seedYAML, "CRLF": strings.ReplaceAll(seedYAML, "\n", "\r\n"), "BOM": "\ufeff" + seedYAML,
		"marked": "---\n" + seedYAML + "...\n", "JSON": seedJSON, "JSON CRLF": strings.ReplaceAll(seedJSON, "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeding.Parse([]byte(content))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClientsWithAShortKeyAreNamed(t *testing.T) {
	long := "hap_" + strings.Repeat("x", 32)
	short := long[:len(long)-1]
	seed, faults := seeding.Parse([]byte("clients:\n- {name: a, key: " + short + ", portals: [1]}\n- {name: b, key: " + long + ", portals: [1]}\n" +
		"- {name: c, keys: [{key: " + long + "1}, {key: hap_1}], portals: [1]}\n- {name: d, key_sha256: " + hash + ", portals: [1]}\n"))
	if diff := cmp.Diff([]string{"a", "c"}, seed.ShortKeys); faults != nil || diff != "" {
		t.Errorf("%v, %s", faults, diff)
	}
}

func TestASeedOfNothingIsWrittenAsSuch(t *testing.T) {
	for _, content := range []string{"{}", "{}\n", "portals: []", `{"portals": [], "clients": []}`} {
		got, err := seeding.Parse([]byte(content))
		if err != nil || len(got.Portals)+len(got.Clients) > 0 {
			t.Errorf("%q: %v, %v", content, got, err)
		}
	}
}

func TestASeedPrintsNoSecret(t *testing.T) {
	content := "portals: [{id: 1, refresh_token: canary-5ecre7}, {id: 2, access_token: canary-5ecre7}, {id: 3, api_key: canary-5ecre7}]\n" +
		"clients: [{name: a, key: hap_canary-5ecre7, portals: [1]}]"
	seed, faults := seeding.Parse([]byte(content))
	if faults != nil {
		t.Fatal(faults)
	}
	if got := seed.Portals[2].Secret.Reveal(); got != canary {
		t.Errorf("the API key is %q", got)
	}
	encoded, err := json.Marshal(seed)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprintf("%v %+v %#v %+v", seed, seed, seed, &seed), string(encoded)} {
		if strings.Contains(out, canary) {
			t.Error(out)
		}
	}
}
