package proxy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// callers is a rig with the three portals of startKinds, for callers with
// keys: each by the client's name.
type callers struct {
	*rig
	key map[string]string
}

// startCallers starts a proxy that lets nobody in without a key; change may
// set other options.
func startCallers(t *testing.T, change ...func(*proxy.Options)) callers {
	t.Helper()
	redis, end := tokens.EmbeddedRedis()
	t.Cleanup(end)
	store := clients.Store{Redis: redis, Prefix: "hubspot:"}
	c := callers{key: map[string]string{}}
	for _, client := range []clients.Client{
		{Name: "one", Portals: []string{portalID}},
		{Name: "static", Portals: []string{staticPortal}},
		{Name: "two", Portals: []string{portalID, staticPortal}},
		{Name: "all", Portals: []string{"*"}},
		{Name: "reader", Portals: []string{portalID}, ReadOnly: true},
		{Name: "unconnected", Portals: []string{"99"}},
	} {
		key := clients.NewKey()
		client.KeySHA256 = clients.Hash(key)
		if err := store.Add(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		c.key[client.Name] = key.Reveal()
	}
	set := clients.NewSet(store, zap.NewNop())
	t.Cleanup(set.Close)
	if err := set.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.rig = startKinds(t, setup{redis: redis, proxy: func(o *proxy.Options) {
		o.Clients, o.AllowAnonymous, o.DefaultPortal = set, false, ""
		for _, change := range change {
			change(o)
		}
	}})
	t.Cleanup(func() { c.noKey("the log", c.logs.String()) })
	return c
}

// noKey fails the test if text has the random part of a key.
func (c callers) noKey(where, text string) {
	c.t.Helper()
	for name, key := range c.key {
		if strings.Contains(text, key[len("hap_"):]) {
			c.t.Errorf("%s has the key of %s", where, name)
		}
	}
}

// ask sends a request: method and target, and lines of its header, in which
// {name} stands for the key of that client.
func (c callers) ask(request string, lines ...string) received {
	c.t.Helper()
	all := append([]string{request + " HTTP/1.1", "Host: localhost"}, lines...)
	text := strings.Join(all, "\r\n") + "\r\n\r\n"
	for name, key := range c.key {
		text = strings.ReplaceAll(text, "{"+name+"}", key)
	}
	got := c.answerTo(text)
	c.noKey("the answer", fmt.Sprint(got.Header, got.text))
	return got
}

// wantPortal fails the test unless HubSpot was asked with that portal's
// credential.
func wantPortal(t *testing.T, got received, portal string) {
	t.Helper()
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || got.StatusCode != 200 || echo.Portal != portal {
		t.Errorf("%d %s, portal %q, want %q", got.StatusCode, got.Header.Get("X-Hubspot-Auth-Proxy-Error"), echo.Portal, portal)
	}
}

func (c callers) wantNoRequests(t *testing.T) {
	t.Helper()
	if n := c.hub.Requests(); n != 0 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

var unauthenticated, forbidden = refused{401, "CLIENT_UNAUTHENTICATED"}, refused{403, "CLIENT_FORBIDDEN"}

func anonymous(o *proxy.Options) { o.AllowAnonymous, o.DefaultPortal = true, staticPortal }

const unknownKey = "hap_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestTheKeyIsReadFromWhereSDKsPutTheirCredential(t *testing.T) {
	c := startCallers(t)
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
	c := startCallers(t)
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
		"access_token":         {"/a?access_token={one}", nil},
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
		"in the fragment":      {"/a#?hapikey={one}", []string{"Authorization: Bearer x"}},
		"for a portal, none":   {"/portals/62515/a", nil},
		"for an unknown one":   {"/portals/1/a", nil},
		"and an invalid one":   {"/portals/x/a", nil},
		"introspection":        {"/oauth/v1/access-tokens/x", nil},
		"prefixed oauth":       {"/portals/62515/oauth/v1/x", nil},
		"oauth with a default": {"/oauth/2026-03/token/introspect", nil},
	} {
		t.Run(name, func(t *testing.T) {
			message := refusal(t, c.ask("GET "+test.target, test.lines...), unauthenticated)
			if !strings.Contains(message, "Authorization: Bearer hap_") {
				t.Errorf("it does not say what to do: %q", message)
			}
		})
	}
	c.wantNoRequests(t)
}

func TestWhereNoKeyIsNeededAWrongOneIsRefusedStill(t *testing.T) {
	c := startCallers(t, anonymous)
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

func TestAClientGetsItsOwnPortalsOnly(t *testing.T) {
	c := startCallers(t)
	for request, portal := range map[string]string{
		"one /a":                    portalID,
		"one /portals/62515/a":      portalID,
		"static /a":                 staticPortal,
		"two /portals/62515/a":      portalID,
		"two /portals/62516/a":      staticPortal,
		"all /portals/62517/a":      keyPortal,
		"one /a X: 62515":           portalID,
		"two /a X: 62516":           staticPortal,
		"one /portals/62516/a":      "",
		"one /portals/62517/a":      "",
		"one /a X: 62516":           "",
		"two /portals/62517/a":      "",
		"static /portals/62515/a":   "",
		"one /portals/1/a":          "",
		"unconnected /a X: 62515":   "",
		"one /portals/62516/../a":   "",
		"one /portals/6251562516/a": "",
	} {
		t.Run(request, func(t *testing.T) {
			fields := strings.SplitN(request, " ", 3)
			lines := []string{"Authorization: Bearer {" + fields[0] + "}"}
			if len(fields) == 3 {
				lines = append(lines, "X-HubSpot-Portal-Id:"+strings.TrimPrefix(fields[2], "X:"))
			}
			got := c.ask("GET "+fields[1], lines...)
			if portal != "" {
				wantPortal(t, got, portal)
			} else {
				refusal(t, got, forbidden)
			}
		})
	}
	for _, name := range []string{"two", "all"} {
		refusal(t, c.ask("GET /a", "Authorization: Bearer {"+name+"}"), refused{400, "PORTAL_REQUIRED"})
	}
	refusal(t, c.ask("GET /portals/62515/a", "Authorization: Bearer {one}", "X-HubSpot-Portal-Id: 62516"), refused{400, "PORTAL_CONFLICT"})
}

func TestTheDefaultPortalIsNoRight(t *testing.T) {
	c := startCallers(t, func(o *proxy.Options) { o.DefaultPortal = keyPortal })
	refusal(t, c.ask("GET /a", "Authorization: Bearer {two}"), forbidden)
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {one}"), portalID)
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {all}"), keyPortal)
	if n := c.hub.RequestsFor(keyPortal); n != 1 {
		t.Errorf("%d requests for the default portal", n)
	}
}

// Connected or not, served here or not, ended or not: who has no right sees no
// difference.
func TestWhoHasNoRightLearnsNothingOfThePortal(t *testing.T) {
	c := startCallers(t, func(o *proxy.Options) { o.ServePortals = []string{portalID, staticPortal, "98"} })
	var texts []string
	for _, portal := range []string{staticPortal, keyPortal, "98", "97"} {
		got := c.ask("GET /portals/"+portal+"/a", "Authorization: Bearer {one}")
		message := refusal(t, got, forbidden)
		got.Header.Del("Date")
		header := fmt.Sprint(got.Header)
		texts = append(texts, strings.ReplaceAll(message+header, portal, "N"))
	}
	for _, text := range texts {
		// Their lengths differ with the portal's.
		if a, b, _ := strings.Cut(text, "Content-Length:["); b != "" {
			_, b, _ = strings.Cut(b, "]")
			text = a + b
		}
		first := texts[0]
		if a, b, _ := strings.Cut(first, "Content-Length:["); b != "" {
			_, b, _ = strings.Cut(b, "]")
			first = a + b
		}
		if text != first {
			t.Errorf("%s\ndiffers from\n%s", text, first)
		}
	}
	c.wantNoRequests(t)
	// Who has the right does learn it.
	refusal(t, c.ask("GET /a", "Authorization: Bearer {unconnected}"), refused{403, "PORTAL_NOT_CONNECTED"})
	// Nor does a wrong key tell whether a portal's id is one.
	refusal(t, c.ask("GET /portals/x/a", "Authorization: Bearer "+unknownKey), unauthenticated)
}

func TestAReaderReadsOnly(t *testing.T) {
	c := startCallers(t)
	for _, request := range []string{
		"GET /crm/v3/objects/contacts",
		"HEAD /crm/v3/objects/contacts",
		"GET /",
		"GET /crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/contacts/search?a=/b",
		"POST /crm/objects/2026-03/contacts/search",
		"POST /crm/objects/2026-09-beta/contacts/search",
		"POST /crm/objects/v3/0-1/search",
		"POST /crm/objects/v4/2-123/search",
		"POST /crm/v3/objects/p_x/search",
		"POST /crm/v3/objects/p62515_My-Thing/search",
		"POST /portals/62515/crm/v3/objects/contacts/search",
		"POST http://elsewhere/crm/v3/objects/contacts/search",
	} {
		t.Run(request, func(t *testing.T) {
			if got := c.ask(request, "Authorization: Bearer {reader}", "Content-Length: 0"); got.StatusCode != 200 {
				t.Errorf("%d %s", got.StatusCode, got.text)
			}
		})
	}
	passed := c.hub.Requests()
	for _, request := range []string{
		"POST /crm/v3/objects/contacts",
		"PUT /crm/v3/objects/contacts/search",
		"PATCH /crm/v3/objects/contacts/1",
		"DELETE /crm/v3/objects/contacts/1",
		"OPTIONS /crm/v3/objects/contacts",
		"OPTIONS *",
		"get /crm/v3/objects/contacts",
		"FOO /crm/v3/objects/contacts",
		"POST /crm/v3/objects/contacts/batch/create",
		"POST /crm/v3/objects/contacts/search/",
		"POST /crm/v3/objects/contacts/search/../batch/archive",
		"POST /crm/v3/objects/contacts/search/..",
		"POST /crm/v3/objects/contacts/search/1",
		"POST /crm/v3/objects/contacts/search;x=1",
		"POST /crm/v3/objects/../search",
		"POST /crm/v3/objects/./search",
		"POST /crm/v3/objects//search",
		"POST /crm/v3/objects/contacts/batch/../search",
		"POST /crm/v3/objects/contacts%2Fsearch",
		"POST /crm/v3/objects/contacts/search%2F..%2Fbatch",
		"POST /crm/v3/objects/contacts/%73earch",
		"POST /crm/v3/objects/contacts%00/search",
		"POST /crm/v3/objects/contacts/search%0a",
		"POST /crm/v3/objects/contacts/search#",
		"POST /crm/v3/objects/contacts/archive?/search",
		"POST /crm/v3/objects/contacts?x=/crm/v3/objects/contacts/search",
		"POST //crm/v3/objects/contacts/search",
		"POST /x/crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/a/b/search",
		"POST /crm/vx/objects/contacts/search",
		"POST /crm/objects/2026/contacts/search",
		"POST /CRM/v3/objects/contacts/search",
		"POST /oauth/v1/token/introspect",
		"DELETE /oauth/v1/refresh-tokens/x",
	} {
		t.Run(request, func(t *testing.T) {
			refusal(t, c.ask(request, "Authorization: Bearer {reader}", "Content-Length: 0"), forbidden)
		})
	}
	for _, line := range []string{
		"X-HTTP-Method-Override: DELETE", "x-http-method-override: GET", "X-HTTP-Method: PUT", "X-Method-Override: PATCH",
		"X-HTTP-Method-Override:",
		"Connection: X-HTTP-Method-Override\r\nX-HTTP-Method-Override: DELETE",
	} {
		for _, request := range []string{"GET /a", "POST /crm/v3/objects/contacts/search"} {
			refusal(t, c.ask(request, "Authorization: Bearer {reader}", "Content-Length: 0", line), forbidden)
		}
		// Those who may write may do so by these, too.
		wantPortal(t, c.ask("POST /a", "Authorization: Bearer {one}", "Content-Length: 0", line), portalID)
	}
	if n := c.hub.RequestsFor(portalID); n != passed+6 {
		t.Errorf("%d requests reached HubSpot, want %d", n, passed+6)
	}
}

func TestTheTokenEndpointNeedsNoKeyAndAllElseUnderOAuthDoes(t *testing.T) {
	c := startCallers(t)
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
	for _, target := range []string{"/oauth/v1/token", "/oauth/2026-03/token", "/portals/7/oauth/v3/token"} {
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
		"/oauth/2026-03/token/introspect", "/oauth/v1/token/", "/oauth/v1/token;x", "/oauth/token", "/oauth//token", "/oauth/v1/%74oken",
		"/oauth/v1/x/../token", "//oauth/v1/token", "/OAuth/v1/token", "/a?/oauth/v1/token", "/x/oauth/v1/token", "/oauth/v1/access-tokens/x",
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
	c := startCallers(t, func(o *proxy.Options) { o.AllowAnonymous, o.DefaultPortal = true, portalID })
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
	c := startCallers(t)
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
	c := startCallers(t)
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

func TestACutOffClientIsOutAtOnce(t *testing.T) {
	redis, end := tokens.EmbeddedRedis()
	t.Cleanup(end)
	store := clients.Store{Redis: redis, Prefix: "hubspot:"}
	set := clients.NewSet(store, zap.NewNop())
	t.Cleanup(set.Close)
	r := startKinds(t, setup{redis: redis, proxy: func(o *proxy.Options) { o.Clients, o.AllowAnonymous = set, false }})
	key := clients.NewKey()
	status := func() int {
		return r.answerTo("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + key.Reveal() + "\r\n\r\n").StatusCode
	}
	if err := store.Add(t.Context(), clients.Client{Name: "a", KeySHA256: clients.Hash(key), Portals: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is let in", func() bool { return status() == 200 })
	if err := store.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is out", func() bool { return status() == 401 })
}

// Whatever a client with a key for one portal sends, HubSpot never gets
// another portal's credential from it.
func TestNoRequestGetsAnotherPortalsCredential(t *testing.T) {
	for mode, change := range map[string]func(*proxy.Options){
		"keys only": func(*proxy.Options) {},
		"a default": func(o *proxy.Options) { o.DefaultPortal = keyPortal },
		"anonymous": anonymous,
	} {
		t.Run(mode, func(t *testing.T) {
			c := startCallers(t, change)
			random := rand.New(rand.NewPCG(20261123, 7))
			pick := func(options ...string) string { return options[random.IntN(len(options))] }
			n := 3000
			if testing.Short() {
				n = 300
			}
			let := 0
			for i := range n {
				key := "{" + pick("one", "reader") + "}"
				id := func() string {
					return pick("62515", "62516", "62517", "62515", "1", "%36", "x", "062516", "62516/", "62516%2f")
				}
				target := pick("", "", "http://api.hubapi.com", "http://62516") +
					pick("", "", "/portals/"+id(), "//portals/"+id(), "/portals/"+id()+"/portals/"+id(), "/x/../portals/"+id(), "/portal%73/"+id()) +
					pick("/", "/a", "/crm/v3/objects/contacts/search", "//a", "/../portals/62516/a", "/oauth/v1/x", "/a;b=c", "/%2e%2e/portals/62516/a") +
					pick("", "?b=1", "?portalId=62516", "?hapikey=", "?a=b&hapikey="+key, "?hapi%6bey="+key+";hapikey="+key, "?access_token="+key)
				// With no key in the header, the query has one.
				lines := []string{"Content-Length: 0"}
				if strings.Contains(target, "api%6bey=") || strings.Contains(target, "hapikey="+key) {
					lines = append(lines, pick("X: y", "Authorization: Bearer "+key, "Authorization: Basic x"))
				} else {
					lines = append(lines, pick("Authorization: Bearer ", "authorization: bearer ", "Authorization:BEARER  ")+key)
				}
				for range random.IntN(3) {
					lines = append(lines, pick("X-HubSpot-Portal-Id: ", "x-hubspot-portal-id:", "X_HubSpot_Portal_Id: ", "X-Portal: ")+id())
				}
				if random.IntN(4) == 0 {
					lines = append(lines, pick("Connection: X-HubSpot-Portal-Id", "Connection: Authorization, close", "Forwarded: for=62516", "Authorization: Bearer "+staticToken, "Origin: null"))
				}
				request := pick("GET", "GET", "POST", "PUT", "DELETE") + " " + target
				got := c.ask(request, lines...)
				if got.StatusCode == 200 {
					let++
				}
				if c.hub.RequestsFor(staticPortal)+c.hub.RequestsFor(keyPortal) > 0 {
					t.Fatalf("request %d reached HubSpot with another portal's credential: %s %q", i, request, lines)
				}
			}
			if let < n/20 {
				t.Errorf("%d of %d were let through: that shows little", let, n)
			}
			if v := c.hub.Violations(); len(v) > 0 {
				t.Error(v)
			}
		})
	}
}
