package clients_test

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/secret"
)

func TestCheckReportsAllFaults(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("0a", 32)
	for name, tt := range map[string]struct {
		client clients.Client
		want   []string // parts of the error; none: it is right
	}{
		"one portal":        {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"62515"}, ReadOnly: false}, nil},
		"several":           {clients.Client{Name: "A.b-c_9", KeySHA256: hash, Portals: []string{"1", "9223372036854775807"}, ReadOnly: true}, nil},
		"all":               {clients.Client{Name: strings.Repeat("a", 64), KeySHA256: hash, Portals: []string{"*"}, ReadOnly: false}, nil},
		"nothing":           {clients.Client{}, []string{"name", "key_sha256", "no portals"}},
		"a long name":       {clients.Client{Name: strings.Repeat("a", 65), KeySHA256: hash, Portals: []string{"1"}, ReadOnly: false}, []string{"name"}},
		"a line break":      {clients.Client{Name: "a\n", KeySHA256: hash, Portals: []string{"1"}, ReadOnly: false}, []string{"name"}},
		"a colon":           {clients.Client{Name: "a:b", KeySHA256: hash, Portals: []string{"1"}, ReadOnly: false}, []string{"name"}},
		"an option":         {clients.Client{Name: "-a", KeySHA256: hash, Portals: []string{"1"}, ReadOnly: false}, []string{"name"}},
		"a short hash":      {clients.Client{Name: "a", KeySHA256: hash[1:], Portals: []string{"1"}, ReadOnly: false}, []string{"key_sha256"}},
		"a long hash":       {clients.Client{Name: "a", KeySHA256: hash + "0", Portals: []string{"1"}, ReadOnly: false}, []string{"key_sha256"}},
		"upper case":        {clients.Client{Name: "a", KeySHA256: strings.ToUpper(hash), Portals: []string{"1"}, ReadOnly: false}, []string{"key_sha256"}},
		"a key for a hash":  {clients.Client{Name: "a", KeySHA256: "hap_canary", Portals: []string{"1"}, ReadOnly: false}, []string{"key_sha256"}},
		"all and another":   {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"*", "1"}, ReadOnly: false}, []string{`"*"`}},
		"another and all":   {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1", "*"}, ReadOnly: false}, []string{`"*"`}},
		"no portal id":      {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1", "x", "01"}, ReadOnly: false}, []string{`"x"`, `"01"`}},
		"an empty portal":   {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{""}, ReadOnly: false}, []string{`""`}},
		"a pattern":         {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"625*"}, ReadOnly: false}, []string{`"625*"`}},
		"paths":             {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1"}, Paths: []string{"/", "/crm/v3/objects/contacts"}}, nil},
		"no paths":          {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1"}, Paths: []string{}}, []string{"list of paths is empty"}},
		"no rules":          {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1"}, Paths: []string{"crm", "/crm/", "/a%20b"}}, []string{`"crm"`, `"/crm/"`, `"/a%20b"`}},
		"another key":       {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1"}, OlderKeys: []clients.Key{{SHA256: strings.Repeat("0b", 32)}}}, nil},
		"a key twice":       {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1"}, OlderKeys: []clients.Key{{SHA256: hash}}}, []string{"given twice"}},
		"another bad key":   {clients.Client{Name: "a", KeySHA256: hash, Portals: []string{"1"}, OlderKeys: []clients.Key{{SHA256: "hap_canary"}}}, []string{"key_sha256"}},
		"more than one bad": {clients.Client{Name: "ä", KeySHA256: "x", Portals: []string{"y"}, ReadOnly: false}, []string{"ä", "key_sha256", `"y"`}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.client.Check()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Check = %v", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not tell of %s", err, part)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hap_canary") {
				t.Errorf("it quotes the key: %v", err)
			}
		})
	}
}

func TestAClientMayUseItsPortalsOnly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		portals, may, mayNot []string
		only                 string
	}{
		{[]string{"1"}, []string{"1"}, []string{"2", "", "11", "*", "default"}, "1"},
		{[]string{"1", "2"}, []string{"1", "2"}, []string{"3", "12"}, ""},
		{[]string{"*"}, []string{"1", "2", "default"}, nil, ""},
		{nil, nil, []string{"1", "", "*"}, ""},
		{[]string{"*", "1"}, []string{"1"}, []string{"2"}, ""}, // Check refuses it
	} {
		c := clients.Client{Portals: tt.portals}
		for _, portal := range tt.may {
			if !c.MayUse(portal) {
				t.Errorf("%q may not use %s", tt.portals, portal)
			}
		}
		for _, portal := range tt.mayNot {
			if c.MayUse(portal) {
				t.Errorf("%q may use %q", tt.portals, portal)
			}
		}
		if got := c.OnlyPortal(); got != tt.only {
			t.Errorf("the only portal of %q is %q", tt.portals, got)
		}
	}
}

func TestKeysAreRandomAndKnownByTheirHash(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^hap_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 1000 {
		key := clients.NewKey()
		value := key.Reveal()
		if !form.MatchString(value) || !clients.IsKey(value) || seen[value] {
			t.Fatalf("%q has not the form of a key, or is not new", value)
		}
		seen[value] = true
		if got, want := clients.Hash(key), fmt.Sprintf("%x", sha256.Sum256([]byte(value))); got != want {
			t.Fatalf("Hash = %s, want %s", got, want)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", key, key, key), value[4:]) {
			t.Fatal("a key prints itself")
		}
	}
	for value, want := range map[string]bool{"hap_": true, "hap_x": true, "HAP_x": false, "pat-na1-x": false, "": false, "xhap_": false} {
		if clients.IsKey(value) != want {
			t.Errorf("IsKey(%q) is not %t", value, want)
		}
	}
	if clients.Hash(secret.New("abc")) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Error("Hash is not SHA-256 in hex")
	}
}
