package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// refused is an answer that the proxy made itself.
type refused struct {
	Status   int
	Category string
}

// refusal checks the shape of an answer of the proxy's own, and returns its
// message.
func refusal(t *testing.T, got received, want refused) string {
	t.Helper()
	if diff := cmp.Diff(want, refused{got.StatusCode, got.Header.Get("X-Hubspot-Auth-Proxy-Error")}); diff != "" {
		t.Errorf("(-want +got):\n%s%s", diff, got.text)
		return ""
	}
	if got.Request.Method == http.MethodHead {
		return ""
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(got.text), &body); err != nil {
		t.Errorf("%s: %v", got.text, err)
		return ""
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(body["correlationId"]) {
		t.Errorf("correlationId is %q", body["correlationId"])
	}
	message := body["message"]
	delete(body, "correlationId")
	delete(body, "message")
	if diff := cmp.Diff(map[string]string{"status": "error", "category": want.Category}, body); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if mime := got.Header.Get("Content-Type"); mime != "application/json;charset=utf-8" {
		t.Errorf("Content-Type is %q", mime)
	}
	return message
}

// noDefault takes the default portal away.
func noDefault(o *proxy.Options) { o.DefaultPortal = "" }

func TestWhatIsNoCallForAPortalIsRefused(t *testing.T) {
	r := startKinds(t, setup{proxy: noDefault})
	for request, want := range map[string]refused{
		"GET /a":                                  {400, "PORTAL_REQUIRED"},
		"HEAD /a":                                 {400, "PORTAL_REQUIRED"},
		"GET /oauth":                              {400, "PORTAL_REQUIRED"},
		"GET ///oauth/v1/a":                       {400, "PORTAL_REQUIRED"},
		"GET //OAuth/v1/a":                        {400, "PORTAL_REQUIRED"},
		"GET /portals":                            {400, "PORTAL_REQUIRED"},
		"GET //portals/62515/a":                   {400, "PORTAL_REQUIRED"},
		"GET /portal%73/62515/a":                  {400, "PORTAL_REQUIRED"},
		"GET /./portals/62515/a":                  {400, "PORTAL_REQUIRED"},
		"OPTIONS *":                               {400, "PORTAL_REQUIRED"},
		"GET /portals/":                           {400, "PORTAL_INVALID"},
		"GET /portals//a":                         {400, "PORTAL_INVALID"},
		"GET /portals/x/a":                        {400, "PORTAL_INVALID"},
		"GET /portals/01/a":                       {400, "PORTAL_INVALID"},
		"GET /portals/0/a":                        {400, "PORTAL_INVALID"},
		"GET /portals/-1/a":                       {400, "PORTAL_INVALID"},
		"GET /portals/%31/a":                      {400, "PORTAL_INVALID"},
		"GET /portals/1%2f2/a":                    {400, "PORTAL_INVALID"},
		"GET /portals/62515%20/a":                 {400, "PORTAL_INVALID"},
		"GET /portals/12345678901234567890/a":     {400, "PORTAL_INVALID"},
		"GET /portals/x/oauth/v1/a":               {400, "PORTAL_INVALID"},
		"GET /portals/1234567890123456789/a":      {403, "PORTAL_NOT_CONNECTED"},
		"GET /portals/1/../62515/a":               {403, "PORTAL_NOT_CONNECTED"},
		"GET mailto:x":                            {400, "REQUEST_INVALID"},
		"GET mailto:x?u=http://h/portals/62515/a": {400, "REQUEST_INVALID"},
		"GET /portals/62515/a#f":                  {400, "REQUEST_INVALID"},
		"GET /portals/62517/a?b#f":                {400, "REQUEST_INVALID"},
		"GET http://h/portals/62517/a#f":          {400, "REQUEST_INVALID"},
		"TRACE /portals/62515/a":                  {405, "METHOD_REFUSED"},
		"TRACE mailto:x":                          {405, "METHOD_REFUSED"},
		"CONNECT localhost:443":                   {405, "METHOD_REFUSED"},
		"CONNECT /portals/62515/a":                {405, "METHOD_REFUSED"},
	} {
		t.Run(request, func(t *testing.T) {
			message := refusal(t, r.answerTo(request+" HTTP/1.1\r\nHost: localhost\r\n\r\n"), want)
			if message == "" && !strings.HasPrefix(request, "HEAD") {
				t.Error("there is no message")
			}
		})
	}
	if n := r.hub.Requests(); n != 0 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

func TestMessagesSayWhatToDo(t *testing.T) {
	r := startKinds(t, setup{proxy: noDefault})
	for _, test := range []struct {
		request string
		want    refused
		says    []string
		header  [2]string
	}{
		{"GET /a", refused{400, "PORTAL_REQUIRED"}, []string{"/portals/{id}", "X-HubSpot-Portal-Id", "DEFAULT_PORTAL"}, [2]string{}},
		{"GET /portals/x", refused{400, "PORTAL_INVALID"}, []string{"digits", "62515"}, [2]string{}},
		{"GET /portals/1/a", refused{403, "PORTAL_NOT_CONNECTED"}, []string{"portal 1", "connect the portal"}, [2]string{}},
		{"TRACE /a", refused{405, "METHOD_REFUSED"}, []string{"TRACE", "Use another method"}, [2]string{"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}},
	} {
		got := r.answerTo(test.request + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
		message := refusal(t, got, test.want)
		for _, says := range test.says {
			if !strings.Contains(message, says) {
				t.Errorf("%s: %q does not say %q", test.request, message, says)
			}
		}
		if name := test.header[0]; name != "" && got.Header.Get(name) != test.header[1] {
			t.Errorf("%s is %q", name, got.Header.Get(name))
		}
	}
}

func TestPrefixAndHeaderNameThePortal(t *testing.T) {
	r := startKinds(t, setup{})
	for name, test := range map[string]struct {
		path   string
		ids    []string
		portal string // or
		error  refused
	}{
		"neither":                    {"/a", nil, portalID, refused{}},
		"prefix":                     {"/portals/62516/a", nil, staticPortal, refused{}},
		"header":                     {"/a", []string{"62516"}, staticPortal, refused{}},
		"header with spaces":         {"/a", []string{"  62516\t"}, staticPortal, refused{}},
		"both":                       {"/portals/62516/a", []string{"62516"}, staticPortal, refused{}},
		"several headers":            {"/a", []string{"62516", "62516"}, staticPortal, refused{}},
		"second prefix is a path":    {"/portals/62516/portals/62517/a", nil, staticPortal, refused{}},
		"prefix and header differ":   {"/portals/62516/a", []string{"62515"}, "", refused{400, "PORTAL_CONFLICT"}},
		"several headers differ":     {"/a", []string{"62516", "62515"}, "", refused{400, "PORTAL_CONFLICT"}},
		"the second header differs":  {"/portals/62516/a", []string{"62516", "62515"}, "", refused{400, "PORTAL_CONFLICT"}},
		"a list":                     {"/a", []string{"62516, 62516"}, "", refused{400, "PORTAL_INVALID"}},
		"an empty header":            {"/a", []string{""}, "", refused{400, "PORTAL_INVALID"}},
		"an empty header and prefix": {"/portals/62516/a", []string{""}, "", refused{400, "PORTAL_INVALID"}},
		"no digits":                  {"/a", []string{"default"}, "", refused{400, "PORTAL_INVALID"}},
		"not ASCII digits":           {"/a", []string{"٦٢"}, "", refused{400, "PORTAL_INVALID"}},
		"a line break":               {"/a", []string{"62516\r\n "}, "", refused{400, "PORTAL_INVALID"}},
		"OAuth with differing names": {"/portals/62516/oauth/a", []string{"62515"}, "", refused{400, "PORTAL_CONFLICT"}},
	} {
		t.Run(name, func(t *testing.T) {
			request := "GET " + test.path + " HTTP/1.1\r\nHost: localhost\r\n"
			for _, id := range test.ids {
				request += "X-HubSpot-Portal-Id: " + id + "\r\n"
			}
			if test.portal == "" {
				refusal(t, r.answerTo(request+"\r\n"), test.error)
				return
			}
			if echo := r.arrived(request + "\r\n"); echo.Portal != test.portal || echo.Header["X-Hubspot-Portal-Id"] != nil {
				t.Errorf("portal %q, header %v", echo.Portal, echo.Header)
			}
		})
	}
}

func TestOnlyTheServedPortalsAreServed(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.ServePortals = []string{staticPortal, keyPortal} }})
	for path, want := range map[string]string{"/portals/62516/a": staticPortal, "/portals/62517/a": keyPortal} {
		if echo := r.arrived("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n"); echo.Portal != want {
			t.Errorf("%s: portal %q", path, echo.Portal)
		}
	}
	for _, path := range []string{"/portals/62515/a", "/a", "/portals/1/a"} {
		message := refusal(t, r.answerTo("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"), refused{403, "PORTAL_NOT_CONNECTED"})
		if !strings.Contains(message, "SERVE_PORTALS") {
			t.Errorf("%s: %q", path, message)
		}
	}
	if echo := r.arrived("GET /portals/62515/oauth/v1/a HTTP/1.1\r\nHost: localhost\r\n\r\n"); echo.Target != "/oauth/v1/a" {
		t.Errorf("HubSpot's token service got %q", echo.Target)
	}
}

func TestHubSpotsTokenServiceNeedsNoPortalAndGetsNoCredential(t *testing.T) {
	r := startKinds(t, setup{proxy: noDefault})
	for _, portal := range []string{"", "/", "/portals/" + portalID, "/portals/" + keyPortal, "/portals/" + keyPortal + "/", "/portals/999"} {
		echo := r.arrived("GET " + portal + "/oauth/v1/a?hapikey=K&b=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n\r\n")
		if diff := cmp.Diff(hubspottest.Echo{Target: "/oauth/v1/a?b=1", Header: http.Header{}},
			hubspottest.Echo{Target: echo.Target, Header: echo.Header}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", portal, diff)
		}
	}
	got := r.answerTo("POST /oauth/v1/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 24\r\n\r\ngrant_type=refresh_token")
	if got.StatusCode != http.StatusBadRequest || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
		t.Errorf("the token endpoint's answer is %d %s", got.StatusCode, got.text)
	}
}

func TestACallerThatIsNotKnownLearnsNothing(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.AllowAnonymous = false; noDefault(o) }})
	for _, request := range []string{
		"GET /a", "GET /portals/62515/a", "GET /portals/1/a", "GET /portals/x/a", "HEAD /a", "OPTIONS *",
		"GET /oauth/v1/token", "PUT /oauth/v1/token", "POST /oauth/v1/token/", "POST /oauth/token", "POST /oauth//token", "POST ///oauth/v1/token",
		"POST /oauth/v1/x/token", "POST /oauth/v1%2Ftoken", "GET /oauth/v1/access-tokens/a", "POST /portals/1///oauth/v1/token", "POST /crm/v1/token",
	} {
		got := r.answerTo(request + " HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Portal-Id: y\r\n\r\n")
		if message := refusal(t, got, refused{401, "CLIENT_UNAUTHENTICATED"}); !strings.HasPrefix(request, "HEAD") && message == "" {
			t.Errorf("%s: no message", request)
		}
	}
	for _, path := range []string{"/oauth/v1/token", "/oauth/2026-03/token", "/portals/1/oauth/v3/token", "/oauth/v1/token?a=b"} {
		got := r.answerTo("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
		if own := got.Header.Get("X-Hubspot-Auth-Proxy-Error"); own != "" || got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s %s", path, got.StatusCode, own, got.text)
		}
	}
	if n := r.hub.Requests(); n != 0 {
		t.Errorf("%d calls of the API", n)
	}
}

func TestTheFirstReasonIsTheAnswer(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.AllowAnonymous = false }})
	for _, test := range []struct {
		request string
		want    refused
	}{
		{"TRACE mailto:x HTTP/1.1\r\nHost: evil\r\nOrigin: http://evil\r\n", refused{405, "METHOD_REFUSED"}},
		{"GET mailto:x HTTP/1.1\r\nHost: evil\r\nOrigin: http://evil\r\n", refused{400, "REQUEST_INVALID"}},
		{"GET /portals/x HTTP/1.1\r\nHost: evil\r\n", refused{403, "BROWSER_REFUSED"}},
		{"GET /portals/x HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", refused{403, "BROWSER_REFUSED"}},
		{"GET /portals/x HTTP/1.1\r\nHost: localhost\r\n", refused{401, "CLIENT_UNAUTHENTICATED"}},
	} {
		refusal(t, r.answerTo(test.request+"\r\n"), test.want)
	}
}

// failing gives no credential.
type failing struct{ err error }

func (f failing) Credential(context.Context, string) (*tokens.Credential, error) { return nil, f.err }
func (f failing) Renew(context.Context, *tokens.Credential, bool) (*tokens.Credential, error) {
	return nil, f.err
}

func TestWithoutCredentialOrHubSpotTheAnswerSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		err        error
		path       string
		want       refused
		says       string
		retryAfter string
	}{
		"not connected": {tokens.ErrNotConnected, "/a", refused{403, "PORTAL_NOT_CONNECTED"}, "portal 62515", ""},
		"ended": {&tokens.EndedError{Portal: portalID, Code: "BAD_HUB"}, "/a",
			refused{403, "PORTAL_REAUTHORIZATION_REQUIRED"}, "connect it again", ""},
		"ended since": {&tokens.EndedError{Portal: portalID, Code: "BAD_HUB", Since: time.Unix(1_800_000_000, 0)}, "/a",
			refused{403, "PORTAL_REAUTHORIZATION_REQUIRED"}, "(BAD_HUB) since 2027-01-15T08:00:00Z", ""},
		"to be tried": {&tokens.EndedError{Portal: portalID, Code: "BAD_HUB", Next: time.Unix(1_800_000_000, 0)}, "/a",
			refused{403, "PORTAL_REAUTHORIZATION_REQUIRED"}, "tried again by the first call after 2027-01-15T08:00:00Z", ""},
		"not to be tried": {&tokens.EndedError{Portal: portalID, Code: "BAD_HUB"}, "/a",
			refused{403, "PORTAL_REAUTHORIZATION_REQUIRED"}, "not tried again by itself", ""},
		"of another app": {&tokens.UnavailableError{Portal: portalID, RetryAfter: 1500 * time.Millisecond, Err: &tokens.AppMismatchError{Portal: portalID, Grant: "a", Configured: "b"}}, "/a",
			refused{503, "APP_MISMATCH"}, "HUBSPOT_CLIENT_ID", "2"},
		"away": {&tokens.UnavailableError{Portal: portalID, RetryAfter: 1500 * time.Millisecond, Err: context.DeadlineExceeded}, "/a",
			refused{503, "CREDENTIAL_UNAVAILABLE"}, "log", "2"},
		"emptied": {&tokens.UnavailableError{Portal: portalID, RetryAfter: 6 * time.Second, Err: &tokens.EmptiedError{Ago: 4100 * time.Millisecond}}, "/a",
			refused{503, "CREDENTIAL_UNAVAILABLE"}, "Redis was emptied, or used for the first time, 4 s ago, and has no record of portal 62515", "6"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{proxy: func(o *proxy.Options) { o.Credentials = failing{test.err} }})
			got := r.answerTo("GET " + test.path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if message := refusal(t, got, test.want); !strings.Contains(message, test.says) {
				t.Errorf("message %q", message)
			}
			if after := got.Header.Get("Retry-After"); after != test.retryAfter {
				t.Errorf("Retry-After is %q", after)
			}
		})
	}
}

// The answer to the client says that the log has the reason.
func TestTheLogHasTheReasonOfA503OncePerIntervalAndPortal(t *testing.T) {
	for name, err := range map[string]error{
		"use Redis: timeout": errors.New("use Redis: timeout"),
		"Redis was emptied":  &tokens.EmptiedError{Ago: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			unavailable := &tokens.UnavailableError{Portal: portalID, RetryAfter: time.Second, Err: err}
			r := start(t, setup{proxy: func(o *proxy.Options) { o.Credentials = failing{unavailable} }})
			for range 3 {
				refusal(t, r.answerTo("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"), refused{503, "CREDENTIAL_UNAVAILABLE"})
			}
			const message = "a call gets 503, because its portal has no usable credential at the moment"
			if log := r.logs.String(); strings.Count(log, message) != 1 || !strings.Contains(log, name) {
				t.Errorf("the log:\n%s", log)
			}
			refusal(t, r.answerTo("GET /portals/7/a HTTP/1.1\r\nHost: localhost\r\n\r\n"), refused{503, "CREDENTIAL_UNAVAILABLE"})
			if log := r.logs.String(); strings.Count(log, message) != 2 || !strings.Contains(log, `"portal":"7"`) {
				t.Errorf("the log, after a call of another portal:\n%s", log)
			}
		})
	}
}

func TestErrorsOfAHubSpotThatDoesNotAnswerNameTheCause(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]refused{
		"/fake/reset":     {502, "UPSTREAM_UNREACHABLE"},
		"/fake/malformed": {502, "UPSTREAM_UNREACHABLE"},
		"/fake/hang":      {504, "UPSTREAM_TIMEOUT"},
	} {
		r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.UpstreamTimeout = 300 * time.Millisecond }})
		for _, portal := range []string{staticPortal, keyPortal} {
			got := r.answerTo("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Portal-Id: " + portal + "\r\n\r\n")
			if message := refusal(t, got, want); !strings.Contains(message, "HubSpot") {
				t.Errorf("%s: message %q", path, message)
			}
		}
		noSecret(t, "the log", r.logs.String())
	}
}
