package hubspot_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var versions = []string{"v1", "v3", "2026-03"}

// appAt returns the fake HubSpot's app with this token endpoint.
func appAt(t *testing.T, tokenURL string) *hubspot.App {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &hubspot.App{
		ClientID:     hubspottest.ClientID,
		ClientSecret: secret.New(hubspottest.ClientSecret),
		TokenURL:     tokenURL,
		Client:       hubspot.NewClient(transport, 5*time.Second),
	}
}

func newHub(t *testing.T) *hubspottest.Server {
	t.Helper()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	return hub
}

// answering returns the app of a token endpoint that gives the same answer to every call.
func answering(t *testing.T, status int, header http.Header, body string) *hubspot.App {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return appAt(t, server.URL)
}

// refusalOf returns the error of a Refresh, and fails the test if the error has a secret.
func refusalOf(t *testing.T, app *hubspot.App, refresh string) *hubspot.Error {
	t.Helper()
	token, err := app.Refresh(t.Context(), secret.New(refresh))
	refusal, is := errors.AsType[*hubspot.Error](err)
	if !is {
		t.Fatalf("%T %v is not a *hubspot.Error", err, err)
	}
	if strings.Contains(err.Error(), hubspottest.Canary) {
		t.Errorf("the error has a secret: %v", err)
	}
	if !token.Access.IsZero() || !token.Refresh.IsZero() || token.ExpiresIn != 0 {
		t.Error("Refresh returned a token and an error")
	}
	return refusal
}

// withoutMessage leaves HubSpot's message and the cause out of comparisons.
var withoutMessage = cmp.Options{cmpopts.IgnoreUnexported(hubspot.Error{}), cmpopts.IgnoreFields(hubspot.Error{}, "Message")}

func TestRefreshReturnsATokenInEveryVersion(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		for name, behaviour := range map[string]hubspottest.TokenBehaviour{
			"plain":                   {},
			"rotated":                 {Rotate: true, Life: 6 * time.Hour},
			"without a refresh token": {OmitRefreshToken: true},
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				hub := newHub(t)
				hub.SetToken(behaviour)
				refresh := hub.Connect("62515")
				app := appAt(t, hub.URL+"/oauth/"+version+"/token")
				token, err := app.Refresh(t.Context(), secret.New(refresh))
				if err != nil {
					t.Fatal(err)
				}
				life := 30 * time.Minute
				if behaviour.Life != 0 {
					life = behaviour.Life
				}
				same := token.Refresh.Reveal() == refresh
				if token.Access.IsZero() || token.ExpiresIn != life || token.Refresh.IsZero() != behaviour.OmitRefreshToken || same == (behaviour.Rotate || behaviour.OmitRefreshToken) {
					t.Errorf("got %+v", token)
				}
				if hub.TokenCallsTotal() != 1 || len(hub.Violations()) > 0 {
					t.Errorf("%d calls, %v", hub.TokenCallsTotal(), hub.Violations())
				}
			})
		}
	}
}

func TestRefreshSendsSecretsInTheBodyOnly(t *testing.T) {
	t.Parallel()
	calls := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		calls <- r
	}))
	t.Cleanup(server.Close)
	_, _ = appAt(t, server.URL+"/oauth/v3/token").Refresh(t.Context(), secret.New("r&=+ %é"))
	r := <-calls
	if diff := cmp.Diff(url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {"r&=+ %é"},
		"client_id":     {hubspottest.ClientID},
		"client_secret": {hubspottest.ClientSecret},
	}, r.PostForm); diff != "" {
		t.Errorf("the form: -want +got\n%s", diff)
	}
	if r.Method != "POST" || r.RequestURI != "/oauth/v3/token" || r.Header.Get("Authorization") != "" ||
		r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.Header.Get("Accept") != "application/json" {
		t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
	}
}

func TestARefusalIsClassifiedByItsCode(t *testing.T) {
	t.Parallel()
	kinds := map[string]hubspot.Kind{
		"BAD_REFRESH_TOKEN": hubspot.GrantEnded,
		"BAD_HUB":           hubspot.GrantEnded,
		"BAD_CLIENT_ID":     hubspot.AppRefused,
		"BAD_CLIENT_SECRET": hubspot.AppRefused,
		"BAD_GRANT_TYPE":    hubspot.Transient,
	}
	for code, kind := range kinds {
		for _, old := range []bool{false, true} {
			for _, version := range versions {
				hub := newHub(t)
				hub.SetToken(hubspottest.TokenBehaviour{Code: code, OldShape: old})
				got := refusalOf(t, appAt(t, hub.URL+"/oauth/"+version+"/token"), hub.Connect("1"))
				want := &hubspot.Error{Status: 400, Code: code, Kind: kind}
				if diff := cmp.Diff(want, got, withoutMessage); diff != "" {
					t.Errorf("%s, old shape %t, %s: -want +got\n%s", code, old, version, diff)
				}
			}
		}
	}
}

func TestOtherAnswersAreClassifiedToo(t *testing.T) {
	t.Parallel()
	jsonType := http.Header{"Content-Type": {"application/json"}}
	token := `"access_token":"` + hubspottest.Canary + `"`
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
		want   hubspot.Error
	}{
		"OAuth's error alone":           {400, jsonType, `{"error":"invalid_grant"}`, hubspot.Error{Status: 400, Code: "invalid_grant", Kind: hubspot.GrantEnded}},
		"OAuth's client error":          {401, jsonType, `{"error":"invalid_client"}`, hubspot.Error{Status: 401, Code: "invalid_client", Kind: hubspot.AppRefused}},
		"a known error, unknown status": {400, jsonType, `{"status":"NEW","error":"invalid_grant"}`, hubspot.Error{Status: 400, Code: "NEW", Kind: hubspot.GrantEnded}},
		"a 5xx with a lasting code":     {503, jsonType, `{"status":"BAD_HUB"}`, hubspot.Error{Status: 503, Code: "BAD_HUB"}},
		"a 429 with a lasting code":     {429, jsonType, `{"status":"BAD_HUB"}`, hubspot.Error{Status: 429, Code: "BAD_HUB"}},
		"a 429":                         {429, http.Header{"Retry-After": {"12"}}, `{"status":"error"}`, hubspot.Error{Status: 429, RetryAfter: 12 * time.Second}},
		"a nonsensical Retry-After":     {429, http.Header{"Retry-After": {"-1"}}, "", hubspot.Error{Status: 429}},
		"an enormous Retry-After":       {429, http.Header{"Retry-After": {"99999999999999999999"}}, "", hubspot.Error{Status: 429}},
		"a Retry-After of the past":     {429, http.Header{"Retry-After": {"Mon, 02 Jan 2006 15:04:05 GMT"}}, "", hubspot.Error{Status: 429}},
		"an invalid code":               {400, jsonType, `{"status":"` + hubspottest.Canary + `"}`, hubspot.Error{Status: 400}},
		"a web page":                    {502, http.Header{"Content-Type": {"text/html"}}, "<html>" + hubspottest.Canary, hubspot.Error{Status: 502}},
		"a redirect":                    {307, http.Header{"Location": {"/other"}}, "", hubspot.Error{Status: 307}},
		"a web page with 200":           {200, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, `{` + token + `,"expires_in":1800}`, hubspot.Error{Status: 200, Problem: "the answer is a web page"}},
		"nothing":                       {200, jsonType, "", hubspot.Error{Status: 200, Problem: "the answer is not JSON"}},
		"null":                          {200, jsonType, "null", hubspot.Error{Status: 200, Problem: "the answer has no access_token"}},
		"a cut answer":                  {200, jsonType, `{` + token, hubspot.Error{Status: 200, Problem: "the answer is not JSON"}},
		"no access_token":               {200, jsonType, `{"expires_in":1800}`, hubspot.Error{Status: 200, Problem: "the answer has no access_token"}},
		"no expires_in":                 {200, jsonType, `{` + token + `}`, hubspot.Error{Status: 200, Problem: "the answer has no usable expires_in"}},
		"a life of 0":                   {200, jsonType, `{` + token + `,"expires_in":0}`, hubspot.Error{Status: 200, Problem: "the answer has no usable expires_in"}},
		"a negative life":               {200, jsonType, `{` + token + `,"expires_in":-1800}`, hubspot.Error{Status: 200, Problem: "the answer has no usable expires_in"}},
		"an enormous life":              {200, jsonType, `{` + token + `,"expires_in":9223372036854775807}`, hubspot.Error{Status: 200, Problem: "the answer has no usable expires_in"}},
		"a line break in the token":     {200, jsonType, `{"access_token":"a\r\nb","expires_in":1800}`, hubspot.Error{Status: 200, Problem: "the answer has a token that no header can carry"}},
		"65,537 bytes":                  {200, jsonType, `{` + token + `,"expires_in":1800}` + strings.Repeat(" ", 64<<10), hubspot.Error{Status: 200, Problem: "the answer is longer than 65536 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := refusalOf(t, answering(t, tt.status, tt.header, tt.body), hubspottest.Canary)
			if diff := cmp.Diff(&tt.want, got, withoutMessage); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestAnAnswerOf64KiBIsAccepted(t *testing.T) {
	t.Parallel()
	body := `{"access_token":"a","expires_in":"1800"}`
	app := answering(t, 200, http.Header{}, body+strings.Repeat(" ", 64<<10-len(body)))
	token, err := app.Refresh(t.Context(), secret.New("r"))
	if err != nil || token.Access.Reveal() != "a" || token.ExpiresIn != 30*time.Minute {
		t.Errorf("got %+v, %v", token, err)
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	t.Parallel()
	date := time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
	app := answering(t, 429, http.Header{"Retry-After": {date}}, "")
	if got := refusalOf(t, app, "r").RetryAfter; got <= 50*time.Second || got > time.Minute {
		t.Errorf("got %v, want a minute", got)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	refresh := hub.Connect("1")
	app := answering(t, http.StatusPermanentRedirect, http.Header{"Location": {hub.TokenURL()}}, "")
	if got := refusalOf(t, app, refresh); got.Status != http.StatusPermanentRedirect || got.Kind != hubspot.Transient {
		t.Errorf("got %+v", got)
	}
	if hub.TokenCallsTotal() != 0 {
		t.Error("the secrets were sent to the redirect's target")
	}
}

func TestNoAnswerIsATransientError(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		behaviour hubspottest.TokenBehaviour
		timeout   time.Duration
		close     bool
		cause     error
	}{
		"no answer":            {hubspottest.TokenBehaviour{Hang: true}, 50 * time.Millisecond, false, context.DeadlineExceeded},
		"a reset connection":   {hubspottest.TokenBehaviour{Reset: true}, time.Minute, false, nil},
		"a refused connection": {hubspottest.TokenBehaviour{}, time.Minute, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := newHub(t)
			hub.SetToken(tt.behaviour)
			app := appAt(t, hub.TokenURL())
			app.Client.Timeout = tt.timeout
			refresh := hub.Connect("1")
			if tt.close {
				hub.Close()
			}
			got := refusalOf(t, app, refresh)
			if diff := cmp.Diff(&hubspot.Error{Problem: "no answer"}, got, withoutMessage); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if got.Unwrap() == nil || tt.cause != nil && !errors.Is(got, tt.cause) {
				t.Errorf("the cause is %v", got.Unwrap())
			}
		})
	}
}

func TestAnAnswerThatBreaksOffIsATransientError(t *testing.T) {
	t.Parallel()
	app := answering(t, 200, http.Header{"Content-Length": {"1000"}}, `{"access_token":"`+hubspottest.Canary)
	got := refusalOf(t, app, "r")
	if diff := cmp.Diff(&hubspot.Error{Status: 200, Problem: "the answer broke off"}, got, withoutMessage); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestAnInvalidTokenURLIsAnError(t *testing.T) {
	t.Parallel()
	if got := refusalOf(t, appAt(t, "http://[::1"), "r"); got.Problem != "the token URL is not valid" {
		t.Errorf("got %v", got)
	}
}

// A grant that HubSpot has refused is tried at once with a new client secret, which is
// recognized by the fingerprint.
func TestAChangedSecretChangesTheFingerprint(t *testing.T) {
	app, other := hubspot.App{ClientID: "1", ClientSecret: secret.New("a")}, hubspot.App{ClientID: "1", ClientSecret: secret.New("b")}
	before := app.Fingerprint()
	app.SetSecret(secret.New("b"))
	if after := app.Fingerprint(); after == before || after != other.Fingerprint() {
		t.Errorf("%s, then %s; an app that was made with the new secret: %s", before, after, other.Fingerprint())
	}
}
