package intercept_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy/intercept"
)

func basic(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }

func TestUserAndKeyAreReadFromProxyAuthorization(t *testing.T) {
	for name, test := range map[string]struct {
		values    []string
		user, key string
		ok        bool
	}{
		"none":                {nil, "", "", true},
		"Basic":               {[]string{basic("62515:hap_a")}, "62515", "hap_a", true},
		"lower case":          {[]string{strings.Replace(basic("62515:hap_a"), "Basic", "basic", 1)}, "62515", "hap_a", true},
		"more blanks":         {[]string{"  Basic   " + basic("a:b")[6:] + " "}, "a", "b", true},
		"no user":             {[]string{basic(":hap_a")}, "", "hap_a", true},
		"no password":         {[]string{basic("62515:")}, "62515", "", true},
		"no colon":            {[]string{basic("62515")}, "62515", "", true},
		"a colon in it":       {[]string{basic("a:b:c")}, "a", "b:c", true},
		"empty":               {[]string{"Basic "}, "", "", true},
		"Bearer":              {[]string{"Bearer hap_a"}, "", "hap_a", true},
		"an empty Bearer":     {[]string{"Bearer "}, "", "", false},
		"twice the same":      {[]string{basic("a:b"), basic("a:b")}, "a", "b", true},
		"two keys":            {[]string{basic("a:b"), basic("a:c")}, "", "", false},
		"two users":           {[]string{basic("a:b"), basic("c:b")}, "", "", false},
		"Basic and Bearer":    {[]string{basic("a:b"), "Bearer b"}, "", "", false},
		"a key and none":      {[]string{basic("a:b"), basic("a")}, "", "", false},
		"not base64":          {[]string{"Basic hap_a"}, "", "", false},
		"another scheme":      {[]string{"Digest hap_a"}, "", "", false},
		"no scheme":           {[]string{"hap_a"}, "", "", false},
		"an empty header":     {[]string{""}, "", "", false},
		"two in one, a comma": {[]string{basic("a:b") + ", " + basic("a:b")}, "", "", false},
	} {
		user, key, ok := intercept.Credentials(http.Header{"Proxy-Authorization": test.values})
		if ok != test.ok || ok && (user != test.user || key.Reveal() != test.key) {
			t.Errorf("%s: %q, %q, %v", name, user, key.Reveal(), ok)
		}
	}
}

func TestAHostIsTheServerThatTheTunnelLeadsTo(t *testing.T) {
	tunnel := intercept.Tunnel{Name: "api.hubapi.com"}
	for host, want := range map[string]bool{
		"api.hubapi.com": true, "API.hubapi.COM": true, "api.hubapi.com:443": true,
		"api.hubapi.com:80": false, "api.hubapi.com:": false, "api.hubapi.com.": false, "api.hubspot.com": false, "evil.example": false,
		"localhost": false, "": false, "api.hubapi.com:443:443": false, "user@api.hubapi.com": false, "62515.localhost": false,
	} {
		if tunnel.LeadsTo(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}
