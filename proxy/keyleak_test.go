package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestATargetWithAClientKeyInItIsRefused(t *testing.T) {
	c := startKeyed(t)
	invalid := refused{400, "REQUEST_INVALID"}
	escaped := func(name string) string { return "%68ap%5f" + strings.TrimPrefix(c.key[name], "hap_") }
	for _, target := range []string{
		"/oauth/v1/access-tokens/{one}", "/oauth/v1/refresh-tokens/{one}", "/a/{one}", "/{one}", "/portals/62515/oauth/v1/access-tokens/{one}", "//oauth/v1/access-tokens/{one}",
		"/oauth/v1/access-tokens/{all}", "/a/x{all}x", "/a;{one}", "/oauth/v1/access-tokens/" + escaped("one"), "/a/" + strings.ReplaceAll(escaped("all"), "%", "%25"),
		"/a?token={one}", "/a?hapikey={one}&b={one}", "/a?b={all}", "/a?{one}", "/a?b=" + escaped("one"),
	} {
		message := refusal(t, c.ask("GET "+target, "Authorization: Bearer {one}"), invalid)
		if !strings.Contains(message, "client key") {
			t.Errorf("%s: %q", target, message)
		}
	}
	refusal(t, c.ask("{one} /a", "Authorization: Bearer {one}"), invalid)
	refusal(t, c.ask("GET /a/{one}"), unauthenticated)
	open := startKeyed(t, anonymous)
	refusal(t, open.ask("GET /a/{one}"), invalid)
	refusal(t, open.ask("GET /oauth/v1/access-tokens/"+unknownKey), invalid)
	for _, target := range []string{"/a/hap_short", "/a?hap_=1", "/a?hapikey={one}", "/a?access_token={one}&b", "/crm/v3/objects/hap_things-of-mine"} {
		wantPortal(t, c.ask("GET "+target, "Authorization: Bearer {one}"), portalID)
	}
	if n := c.hub.Requests() + open.hub.Requests(); n != 5 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

func TestAHeaderWithAClientKeyStaysHere(t *testing.T) {
	c := startKeyed(t)
	got := c.ask("POST /a", "Authorization: Bearer {one}", "Hapikey: {one}", "private-app: {one}", "Cookie: a={all}; b", "X-A: b", "X-B: Bearer {one}", "X-B: c", "X-C: %68ap%5f"+strings.TrimPrefix(c.key["all"], "hap_"),
		"Transfer-Encoding: chunked", "Trailer: X-D, X-E", "", "0", "X-D: {one}", "X-E: e")
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || echo.Portal != portalID || echo.Header.Get("X-A") != "b" || echo.Trailer.Get("X-E") != "e" {
		t.Fatalf("%v: %s", err, got.text)
	}
	for _, name := range []string{"Hapikey", "Private-App", "Cookie", "X-B", "X-C"} {
		if echo.Header[name] != nil {
			t.Errorf("HubSpot got %s", name)
		}
	}
	if echo.Trailer.Get("X-D") != "" {
		t.Errorf("HubSpot got %v", echo.Trailer)
	}
}

func TestAHeaderWhoseNameHasAClientKeyStaysHere(t *testing.T) {
	c := startKeyed(t)
	for _, name := range []string{"{one}", "{all}", "X-{one}-Y", unknownKey, strings.ToUpper(unknownKey), "%68ap%5f" + strings.TrimPrefix(unknownKey, "hap_"), "%2568ap_" + strings.TrimPrefix(unknownKey, "hap_")} {
		for _, announced := range []string{"X-E", "X-E, " + name} {
			got := c.ask("POST /a", "Authorization: Bearer {one}", "X-A: b", name+": 1", "Transfer-Encoding: chunked", "Trailer: "+announced, "", "0", name+": d", "X-E: e")
			echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
			if err != nil || echo.Portal != portalID || echo.Header.Get("X-A") != "b" {
				t.Fatalf("%v: %s", err, got.text)
			}
			if diff := cmp.Diff(http.Header{"X-E": {"e"}}, echo.Trailer); diff != "" {
				t.Errorf("%s, announced %s: trailers (-want +got):\n%s", name, announced, diff)
			}
			for arrived := range echo.Header {
				if len(arrived) > 40 {
					t.Errorf("HubSpot got the field %s", arrived)
				}
			}
		}
	}
}

// post sends a body under /oauth/, in which {name} stands for the key of that
// client, as its lines do.
func (c keyedRig) post(target, body string, lines ...string) received {
	c.t.Helper()
	for name, key := range c.key {
		body = strings.ReplaceAll(body, "{"+name+"}", key)
	}
	return c.ask("POST "+target, append(lines, fmt.Sprint("Content-Length: ", len(body)), "", body)...)
}

func TestABodyUnderOAuthWithTheClientKeyIsRefused(t *testing.T) {
	c := startKeyed(t)
	escaped := "%68ap%5F" + strings.TrimPrefix(c.key["one"], "hap_")
	for _, target := range []string{"/oauth/v1/token", "/oauth/2026-03/token/introspect", "/oauth/v1/x", "/portals/62515/oauth/v3/token", "/oauth/v2/private-apps/get/access-token-info/"} {
		for _, body := range []string{"token={one}", "a=b&client_secret=" + escaped, `{"tokenKey":"{one}"}`, `{"a":"\u0068ap_` + strings.TrimPrefix(c.key["one"], "hap_") + `"}`, strings.Repeat("a", 100000) + "{one}"} {
			message := refusal(t, c.post(target, body, "Authorization: Bearer {one}"), refused{400, "REQUEST_INVALID"})
			if !strings.Contains(message, "body contains the client key") {
				t.Errorf("%s %.40s: %q", target, body, message)
			}
		}
	}
	refusal(t, c.post("/oauth/v1/x", strings.Repeat("a", 1<<20+1), "Authorization: Bearer {one}", "Connection: close"), refused{400, "REQUEST_INVALID"})
	refusal(t, c.post("/oauth/v1/x", zipped("token="+c.key["one"]), "Authorization: Bearer {one}", "Content-Encoding: gzip"), refused{400, "REQUEST_INVALID"})
	c.wantNoRequests(t)
	body := strings.Repeat("b", 1<<20)
	echo, err := hubspottest.DecodeEcho(strings.NewReader(c.post("/oauth/v1/x", body, "Authorization: Bearer {one}").text))
	if err != nil || echo.BodySHA256 != sum([]byte(body)) || echo.ContentLength != 1<<20 || echo.Header["Authorization"] != nil {
		t.Errorf("%v, %+v", err, echo)
	}
	// Elsewhere a body is the client's own matter, and streams.
	wantPortal(t, c.post("/a", "b", "Authorization: Bearer {one}"), portalID)
}

const tokenInfo = "/oauth/v2/private-apps/get/access-token-info"

func TestTheKeyIsExchangedWhereItIsTheCredential(t *testing.T) {
	c := startKeyed(t)
	for _, test := range []struct {
		target, body, key string
		want              string // the portal, or the category
	}{
		{tokenInfo, `{"tokenKey":"{one}"}`, "one", portalID},
		{tokenInfo, `{ "x" : [1, {"y": "\u00e9<"}], "tokenKey" : "\u0068ap_` + strings.TrimPrefix(c.key["static"], "hap_") + `"}`, "static", staticPortal},
		{"/portals/62516" + tokenInfo + "?a=b", `{"tokenKey":"{two}"}`, "two", staticPortal},
		{"/portals/62515/" + tokenInfo, `{"tokenKey":"{all}"}`, "all", portalID},
		{tokenInfo, `{"tokenKey":"{two}"}`, "two", "PORTAL_REQUIRED"},
		{"/portals/62516" + tokenInfo, `{"tokenKey":"{one}"}`, "one", "CLIENT_FORBIDDEN"},
		{"/portals/62517" + tokenInfo, `{"tokenKey":"{all}"}`, "all", "REQUEST_INVALID"},
		{tokenInfo, `{"tokenKey":"{unconnected}"}`, "unconnected", "PORTAL_NOT_CONNECTED"},
		{tokenInfo, `{"tokenKey":"{reader}"}`, "reader", "CLIENT_FORBIDDEN"},
		{tokenInfo, `{"tokenKey":"{one}","a":"{one}"}`, "one", "REQUEST_INVALID"},
		{tokenInfo, `{"tokenkey":"{one}"}`, "one", "REQUEST_INVALID"},
		{tokenInfo, `{"tokenKey":" {one}"}`, "one", "REQUEST_INVALID"},
		{tokenInfo, `["{one}"]`, "one", "REQUEST_INVALID"},
		{tokenInfo, `{"tokenKey":"` + staticToken + `"}`, "one", staticPortal}, // a token of its own
	} {
		got := c.post(test.target, test.body, "Authorization: Bearer {"+test.key+"}", "Accept-Encoding: gzip", "X-Hubspot-Auth-Proxy-Debug: 1")
		if category := got.Header.Get("X-Hubspot-Auth-Proxy-Error"); category != "" || got.StatusCode != http.StatusOK {
			if category != test.want {
				t.Errorf("%s: %d %s %s, want %s", test.body, got.StatusCode, category, got.text, test.want)
			}
		} else if !strings.Contains(got.text, `"hubId":`+test.want+",") {
			t.Errorf("%s: %s, want %s", test.body, got.text, test.want)
		}
		noSecret(t, "the answer", fmt.Sprint(got.Header, got.text))
	}
	noSecret(t, "the log", c.logs.String())
	refusal(t, c.post(tokenInfo, `{"tokenKey":"{one}"}`), unauthenticated)
	refusal(t, c.post(tokenInfo, `{"tokenKey":"{one}"}`, "Authorization: Bearer "+unknownKey), unauthenticated)
}

func TestATokenThatIsSentBackIsTakenOut(t *testing.T) {
	for encoding, status := range map[string]int{"": http.StatusOK, "gzip": http.StatusBadGateway} {
		set, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if encoding != "" {
				w.Header().Set("Content-Encoding", encoding)
			}
			w.Header().Set("X-Was", r.Header.Get("Accept-Encoding"))
			_, _ = fmt.Fprintf(w, "%s %s %s", r.Header.Get("Authorization"), body, url.QueryEscape(string(body)))
		})
		c := startKeyed(t, set)
		got := c.post(tokenInfo, `{"tokenKey":"{static}"}`, "Authorization: Bearer {static}", "Accept-Encoding: gzip")
		if got.StatusCode != status || strings.Contains(got.text, staticToken) || got.Header.Get("X-Was") != "" {
			t.Errorf("%d %v %s", got.StatusCode, got.Header, got.text)
		}
		if status == http.StatusOK && !strings.Contains(got.text, `{"tokenKey":"[redacted]"}`) {
			t.Errorf("the answer is %s", got.text)
		}
		if status == http.StatusBadGateway && !strings.Contains(c.logs.String(), "HubSpot's answer about the token is too long, encoded, or was broken off") {
			t.Errorf("the log does not name the cause:\n%s", &c.logs.Output)
		}
	}
}

func TestTheTokenIsHadAsForEveryCall(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.Credentials = failing{&tokens.EndedError{Portal: portalID, Code: "BAD_HUB"}} })
	refusal(t, c.post(tokenInfo, `{"tokenKey":"{one}"}`, "Authorization: Bearer {one}"), refused{403, "PORTAL_REAUTHORIZATION_REQUIRED"})
}
