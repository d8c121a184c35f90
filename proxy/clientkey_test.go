package proxy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestTheKeyIsReadFromWhereSDKsPutTheirCredential(t *testing.T) {
	c := startKeyed(t)
	for name, test := range map[string]struct {
		target string
		lines  []string
	}{
		"bearer":                  {"/a", []string{"Authorization: Bearer {one}"}},
		"lower case":              {"/a", []string{"authorization: bearer {one}"}},
		"upper case":              {"/a", []string{"AUTHORIZATION: BEARER {one}"}},
		"more blanks":             {"/a", []string{"Authorization:   Bearer   {one}  "}},
		"hapikey":                 {"/a?hapikey={one}", nil},
		"HAPIKEY":                 {"/a?b=1&HAPIKEY={one}", nil},
		"a percent-encoded name":  {"/a?%68api%6Bey={one}&b=1", nil},
		"a percent-encoded value": {"/a?hapikey=%68ap_" + strings.TrimPrefix(c.key["one"], "hap_"), nil},
		"behind a semicolon":      {"/a?b=1;hapikey={one}", nil},
		"access_token":            {"/a?access_token={one}", nil},
		"Access_Token, encoded":   {"/a?b&Access%5fToken={one}", nil},
		"blanks around the name":  {"/a?+hapikey%20={one}&%09access_token={one}", nil},
		"all three, equal":        {"/a?hapikey={one}&access_token={one}", []string{"Authorization: Bearer {one}"}},
		"both, equal":             {"/a?hapikey={one}", []string{"Authorization: Bearer {one}"}},
		"twice, equal":            {"/a", []string{"Authorization: Bearer {one}", "Authorization: Bearer {one}"}},
		"beside Basic":            {"/a", []string{"Authorization: Basic YTpi", "Authorization: Bearer {one}"}},
		"beside an empty one":     {"/a?hapikey=", []string{"Authorization: Bearer {one}"}},
		"absolute form":           {"http://api.hubapi.com/a?hapikey={one}", nil},
		"with a prefix":           {"/portals/62515/a?hapikey={one}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			wantPortal(t, c.ask("GET "+test.target, test.lines...), portalID)
		})
	}
}

func TestWhoHasNoKeyIsNotLetIn(t *testing.T) {
	c := startKeyed(t)
	several := map[string]bool{
		"another access_token": true, "two clients": true, "two headers": true, "two parameters": true, "one and unknown": true, "one and placeholder": true, "in the fragment": true,
	}
	for name, test := range map[string]struct {
		target string
		lines  []string
	}{
		"nothing":              {"/a", nil},
		"empty":                {"/a?hapikey=", []string{"Authorization: Bearer "}},
		"unknown":              {"/a", []string{"Authorization: Bearer " + unknownKey}},
		"unknown hapikey":      {"/a?hapikey=" + unknownKey, nil},
		"a placeholder":        {"/a", []string{"Authorization: Bearer placeholder"}},
		"a HubSpot token":      {"/a", []string{"Authorization: Bearer " + staticToken}},
		"HubSpot's API key":    {"/a?hapikey=" + apiKey, nil},
		"Basic":                {"/a", []string{"Authorization: Basic {one}"}},
		"no scheme":            {"/a", []string{"Authorization: {one}"}},
		"Proxy-Authorization":  {"/a", []string{"Proxy-Authorization: Bearer {one}"}},
		"unknown access_token": {"/a?access_token=" + unknownKey, nil},
		"another access_token": {"/a?access_token={two}&hapikey={one}", nil},
		"a cut key":            {"/a", []string{"Authorization: Bearer " + c.key["one"][:46]}},
		"a longer key":         {"/a", []string{"Authorization: Bearer {one}A"}},
		"another case":         {"/a", []string{"Authorization: Bearer HAP_" + c.key["one"][4:]}},
		"its hash":             {"/a", []string{"Authorization: Bearer 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}},
		"two clients":          {"/a?hapikey={one}", []string{"Authorization: Bearer {all}"}},
		"two headers":          {"/a", []string{"Authorization: Bearer {one}", "Authorization: Bearer {all}"}},
		"two parameters":       {"/a?hapikey={one}&b=1;HAPIKEY={two}", nil},
		"one and unknown":      {"/a?hapikey=" + unknownKey, []string{"Authorization: Bearer {one}"}},
		"one and placeholder":  {"/a?hapikey=demo", []string{"Authorization: Bearer {one}"}},
		"two in one header":    {"/a", []string{"Authorization: Bearer {one}, Bearer {one}"}},
		"for a portal, none":   {"/portals/62515/a", nil},
		"for an unknown one":   {"/portals/1/a", nil},
		"and an invalid one":   {"/portals/x/a", nil},
		"introspection":        {"/oauth/v1/access-tokens/x", nil},
		"prefixed oauth":       {"/portals/62515/oauth/v1/x", nil},
		"oauth with a default": {"/oauth/2026-03/token/introspect", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.ask("GET "+test.target, test.lines...)
			message := refusal(t, got, unauthenticated)
			if !strings.Contains(message, "Authorization: Bearer hap_") {
				t.Errorf("it does not say what to do: %q", message)
			}
			if several := several[name]; strings.Contains(message, "Several different keys") != several {
				t.Errorf("several keys: %t, but it says %q", several, message)
			}
			if challenge := got.Header.Values("Www-Authenticate"); len(challenge) != 1 || challenge[0] != "Bearer" {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
		})
	}
	c.wantNoRequests(t)
}

func TestWhereNoKeyIsNeededAWrongOneIsRefusedStill(t *testing.T) {
	c := startKeyed(t, anonymous)
	for name, test := range map[string]struct {
		target string
		lines  []string
		portal string // or 401
	}{
		"nothing":                 {"/a", nil, staticPortal},
		"a placeholder":           {"/a?hapikey=demo", []string{"Authorization: Bearer placeholder"}, staticPortal},
		"Basic":                   {"/a", []string{"Authorization: Basic YTpi"}, staticPortal},
		"any portal":              {"/portals/62517/a", nil, keyPortal},
		"an unknown key":          {"/a", []string{"Authorization: Bearer " + unknownKey}, ""},
		"an unknown hapikey":      {"/a?hapi%6bey=%68ap_x", nil, ""},
		"the prefix alone":        {"/a", []string{"Authorization: bearer hap_"}, ""},
		"unknown and placeholder": {"/a?hapikey=demo", []string{"Authorization: Bearer " + unknownKey}, ""},
		"two known":               {"/a?hapikey={one}", []string{"Authorization: Bearer {all}"}, ""},
		"known and placeholder":   {"/a?hapikey=demo", []string{"Authorization: Bearer {one}"}, ""},
		"a known key":             {"/a", []string{"Authorization: Bearer {one}"}, portalID},
		"a known key, the prefix": {"/portals/62516/a", []string{"Authorization: Bearer {static}"}, staticPortal},
		"all, and the default":    {"/a", []string{"Authorization: Bearer {all}"}, staticPortal},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.ask("GET "+test.target, test.lines...)
			if test.portal == "" {
				refusal(t, got, unauthenticated)
			} else {
				wantPortal(t, got, test.portal)
			}
		})
	}
	refusal(t, c.ask("GET /portals/62516/a", "Authorization: Bearer {one}"), forbidden)
	refusal(t, c.ask("DELETE /a", "Authorization: Bearer {reader}"), forbidden)
	// The unknown key has no more rights at HubSpot's token endpoint.
	refusal(t, c.ask("POST /oauth/v1/token", "Authorization: Bearer "+unknownKey, "Content-Length: 0"), unauthenticated)
}

func TestTheTokenEndpointNeedsNoKeyAndAllElseUnderOAuthDoes(t *testing.T) {
	c := startKeyed(t)
	refresh := c.hub.Connect("7")
	form := "grant_type=refresh_token&client_id=" + hubspottest.ClientID + "&client_secret=" + hubspottest.ClientSecret + "&refresh_token=" + refresh
	post := func(target string, lines ...string) received {
		lines = append(lines, "Content-Type: application/x-www-form-urlencoded", fmt.Sprint("Content-Length: ", len(form)), "Connection: close", "", form)
		all := append([]string{"POST " + target + " HTTP/1.1", "Host: localhost"}, lines...)
		text := strings.Join(all, "\r\n")
		for name, key := range c.key {
			text = strings.ReplaceAll(text, "{"+name+"}", key)
		}
		return c.answerTo(text)
	}
	for _, target := range []string{"/oauth/v1/token", "/oauth/2026-03/token", "/portals/7/oauth/v3/token", "//oauth/v1/token", "/portals/7//oauth/v3/token"} {
		if got := post(target); got.StatusCode != 200 || !strings.Contains(got.text, "access_token") {
			t.Errorf("%s: %d %s", target, got.StatusCode, got.text)
		}
	}
	for _, name := range []string{"one", "reader"} {
		if got := post("/oauth/v1/token", "Authorization: Bearer {"+name+"}"); got.StatusCode != 200 {
			t.Errorf("%s: %d %s", name, got.StatusCode, got.text)
		}
	}
	refusal(t, post("/oauth/v1/token", "Authorization: Bearer "+unknownKey), unauthenticated)
	refusal(t, post("/oauth/v1/token", "Origin: https://evil.example"), refused{403, "BROWSER_REFUSED"})
	for _, target := range []string{
		"/oauth/..%2f..%2fforms%2fv3%2fsubmit/token", "/oauth/../token", "/oauth/v/token", "/oauth/v1x/token", "/oauth/V1/token", "/oauth/1/token", "/oauth/2026-3/token", "/oauth/2026-13/token",
		"/oauth/2026-03-beta/token", "/oauth/v1%20/token", "/oauth/v1;x/token", "/oauth/x/token",
		"/oauth/2026-03/token/introspect", "/oauth/v1/token/", "/oauth/v1/token;x", "/oauth/token", "/oauth//token", "/oauth/v1/%74oken",
		"/oauth/v1/x/../token", "///oauth/v1/token", "/OAuth/v1/token", "/a?/oauth/v1/token", "/x/oauth/v1/token", "/oauth/v1/access-tokens/x",
	} {
		refusal(t, post(target), unauthenticated)
	}
	refusal(t, c.ask("GET /oauth/v1/token"), unauthenticated)
	refusal(t, c.ask("PUT /oauth/v1/token"), unauthenticated)
	got := c.ask("GET /oauth/v1/access-tokens/x?hapikey={one}", "Authorization: Bearer {one}")
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || echo.Target != "/oauth/v1/access-tokens/x" || echo.Header["Authorization"] != nil {
		t.Errorf("%v, %v", echo, err)
	}
	if v := c.hub.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

func TestAWebPageWithAKeyIsLetIn(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.AllowAnonymous, o.DefaultPortal = true, portalID })
	for _, lines := range [][]string{{"Origin: https://a.example"}, {"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"}} {
		wantPortal(t, c.ask("GET /a", append(lines, "Authorization: Bearer {one}")...), portalID)
		refusal(t, c.ask("GET /portals/62516/a", append(lines, "Authorization: Bearer {one}")...), forbidden)
		for _, key := range []string{unknownKey, "placeholder", ""} {
			refusal(t, c.ask("GET /a", append(lines, "Authorization: Bearer "+key)...), refused{403, "BROWSER_REFUSED"})
		}
		refusal(t, c.ask("GET /a", lines...), refused{403, "BROWSER_REFUSED"})
	}
	// The same for a name that was made to lead to loopback.
	for key, want := range map[string]int{c.key["one"]: 200, "x": 403} {
		got := c.answerTo("GET /a HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer " + key + "\r\n\r\n")
		if got.StatusCode != want {
			t.Errorf("%d, want %d", got.StatusCode, want)
		}
	}
}

func TestAKeyGoesNowhere(t *testing.T) {
	c := startKeyed(t)
	for _, name := range []string{"one", "static", "all"} {
		target := "/a/b?c=1&hapikey={all}&HAPI%6bEY={all}&access_token={all}"
		got := c.ask("GET /portals/62517"+strings.ReplaceAll(target, "all", name),
			"Authorization: Bearer {"+name+"}", "Authorization: Bearer {"+name+"}", "Proxy-Authorization: Bearer {"+name+"}")
		if name != "all" {
			refusal(t, got, forbidden)
			continue
		}
		wantPortal(t, got, keyPortal) // and ask looks for the key in the echo
		if !strings.Contains(got.text, "/a/b?c=1&hapikey="+apiKey) {
			t.Errorf("not what HubSpot should get: %s", got.text)
		}
	}
	refusal(t, c.ask("GET /a?hapikey={one}", "Authorization: Bearer {all}"), unauthenticated)
	refusal(t, c.ask("GET /a", "X-HubSpot-Portal-Id: {one}", "Authorization: Bearer {one}"), refused{400, "PORTAL_INVALID"})
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {one}", "X-Hubspot-Auth-Proxy-Debug: 1"), portalID)
}

func TestTheAccessLogNamesTheClient(t *testing.T) {
	c := startKeyed(t)
	c.ask("GET /a", "Authorization: Bearer {one}")
	c.ask("GET /portals/62516/a", "Authorization: Bearer {one}")
	c.ask("GET /a", "Authorization: Bearer "+unknownKey)
	c.accessLog(3)
	var got []string
	for text := range strings.Lines(c.logs.String()) {
		var line struct{ Msg, Client, Category string }
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if line.Msg == "request" {
			got = append(got, line.Client+" "+line.Category)
		}
	}
	if want := "one |one CLIENT_FORBIDDEN| CLIENT_UNAUTHENTICATED"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
}
