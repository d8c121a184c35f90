package hubspottest_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

const (
	patToken = "pat-na1-" + hubspottest.Canary
	apiKey   = hubspottest.Canary + "-key"
)

func TestEachCredentialIsAcceptedOrRefused(t *testing.T) {
	const (
		accepted = ""
		expired  = "EXPIRED_AUTHENTICATION"
		invalid  = "INVALID_AUTHENTICATION"
	)
	for _, tt := range []struct {
		name     string
		arrange  func(*hubspottest.Server) (authorization, query string)
		category string
		kind     string
	}{
		{"no credential", func(*hubspottest.Server) (string, string) { return "", "" }, invalid, ""},
		{"unknown bearer", func(*hubspottest.Server) (string, string) { return "Bearer x", "" }, invalid, ""},
		{"unknown hapikey", func(*hubspottest.Server) (string, string) { return "", "hapikey=x" }, invalid, ""},
		{"live token", func(s *hubspottest.Server) (string, string) {
			return "Bearer " + s.Issue(portal, time.Hour), ""
		}, accepted, hubspottest.CredentialOAuth},
		{"live token, not as Bearer", func(s *hubspottest.Server) (string, string) {
			return "Basic " + s.Issue(portal, time.Hour), ""
		}, invalid, ""},
		{"token that has expired when it is issued", func(s *hubspottest.Server) (string, string) {
			return "Bearer " + s.Issue(portal, 0), ""
		}, expired, ""},
		{"expired token", func(s *hubspottest.Server) (string, string) {
			token := s.Issue(portal, time.Hour)
			s.Expire(portal)
			return "Bearer " + token, ""
		}, expired, ""},
		{"token issued after Expire", func(s *hubspottest.Server) (string, string) {
			s.Expire(portal)
			return "Bearer " + s.Issue(portal, time.Hour), ""
		}, accepted, hubspottest.CredentialOAuth},
		{"revoked token", func(s *hubspottest.Server) (string, string) {
			token := s.Issue(portal, time.Hour)
			s.Revoke(portal)
			return "Bearer " + token, ""
		}, invalid, ""},
		{"token of another portal than the expired one", func(s *hubspottest.Server) (string, string) {
			token := s.Issue(portal, time.Hour)
			s.Expire("1")
			s.Revoke("1")
			s.RejectAll("1", true)
			return "Bearer " + token, ""
		}, accepted, hubspottest.CredentialOAuth},
		{"token after Disconnect", func(s *hubspottest.Server) (string, string) {
			s.Connect(portal)
			token := s.Issue(portal, time.Hour)
			s.Disconnect(portal)
			return "Bearer " + token, ""
		}, accepted, hubspottest.CredentialOAuth},
		{"rejected portal", func(s *hubspottest.Server) (string, string) {
			s.RejectAll(portal, true)
			return "Bearer " + s.Issue(portal, time.Hour), ""
		}, invalid, ""},
		{"portal no longer rejected", func(s *hubspottest.Server) (string, string) {
			s.RejectAll(portal, true)
			s.RejectAll(portal, false)
			return "Bearer " + s.Issue(portal, time.Hour), ""
		}, accepted, hubspottest.CredentialOAuth},
		{"static token, untouched by Expire and Revoke", func(s *hubspottest.Server) (string, string) {
			s.SetAccessToken(portal, patToken)
			s.Expire(portal)
			s.Revoke(portal)
			return "Bearer " + patToken, ""
		}, accepted, hubspottest.CredentialAccessToken},
		{"replaced static token", func(s *hubspottest.Server) (string, string) {
			s.SetAccessToken(portal, patToken)
			s.SetAccessToken(portal, patToken+"2")
			return "Bearer " + patToken, ""
		}, invalid, ""},
		{"hapikey", func(s *hubspottest.Server) (string, string) {
			s.SetAPIKey(portal, apiKey)
			return "", "a=%zz&hapi%6bey=" + apiKey
		}, accepted, hubspottest.CredentialAPIKey},
		{"replaced hapikey", func(s *hubspottest.Server) (string, string) {
			s.SetAPIKey(portal, apiKey)
			s.SetAPIKey(portal, apiKey+"2")
			return "", "hapikey=" + apiKey
		}, invalid, ""},
		{"rejected portal's hapikey", func(s *hubspottest.Server) (string, string) {
			s.SetAPIKey(portal, apiKey)
			s.RejectAll(portal, true)
			return "", "hapikey=" + apiKey
		}, invalid, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := newHub(t)
			authorization, query := tt.arrange(hub)
			r, _ := http.NewRequest("GET", hub.URL+"/crm?"+query, nil)
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			a := send(t, newClient(t, hub), r)
			if tt.category == accepted {
				e := echoOf(t, a)
				if e.Portal != portal || e.Credential != tt.kind {
					t.Errorf("credential %s of %s", e.Credential, e.Portal)
				}
			} else {
				check401(t, a, tt.category)
			}
			if v := hub.Violations(); len(v) != 0 {
				t.Errorf("violations %q", v)
			}
		})
	}
}

// check401 checks that the answer is a 401 with the category, in HubSpot's form.
func check401(t *testing.T, a answer, category string) {
	t.Helper()
	body := fields(t, a.body)
	want := map[string]any{
		"status":       401,
		"category":     category,
		"auth failure": "401 Unauthorized",
		"type":         "application/json;charset=utf-8",
		"correlation":  body["correlationId"],
	}
	got := map[string]any{
		"status":       a.StatusCode,
		"category":     body["category"],
		"auth failure": a.Header.Get("x-hubspot-auth-failure"),
		"type":         a.Header.Get("content-type"),
		"correlation":  a.Header.Get("x-hubspot-correlation-id"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestThe401sHaveHubSpotsBodies(t *testing.T) {
	hub := newHub(t)
	client := newClient(t, hub)
	ignored := func(body map[string]any) map[string]any {
		delete(body, "correlationId")
		delete(body, "context")
		return body
	}
	for _, tt := range []struct{ name, bearer, query, want string }{
		{"unknown", "x", "", `{"status":"error","message":"Authentication credentials not found. This API supports OAuth 2.0 ` +
			`authentication and you can find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",` +
			`"category":"INVALID_AUTHENTICATION"}`},
		{"expired", hub.Issue(portal, -90*time.Second), "", `{"status":"error","message":"The OAuth token used to make this ` +
			`call expired 90 second(s) ago.","category":"EXPIRED_AUTHENTICATION"}`},
		{"hapikey", "", "?hapikey=x", `{"status":"error","message":"The API key provided is invalid. View or manage your API ` +
			`key here: https://app.hubspot.com/l/api-key/","category":"INVALID_AUTHENTICATION",` +
			`"links":{"api key":"https://app.hubspot.com/l/api-key/"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := do(t, client, "GET", hub.URL+"/crm"+tt.query, tt.bearer, nil)
			if diff := cmp.Diff(fields(t, tt.want), ignored(fields(t, a.body))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSeveralCredentialsAreRefusedAndReported(t *testing.T) {
	for _, tt := range []struct{ name, query, headers, want string }{
		{"both", "?hapikey=" + apiKey, "Authorization: Bearer " + patToken + "\r\n", "Authorization and hapikey at once"},
		{"empty hapikey beside a bearer", "?hapikey=", "Authorization: Bearer " + patToken + "\r\n",
			"Authorization and hapikey at once"},
		{"two headers", "", strings.Repeat("Authorization: Bearer "+patToken+"\r\n", 2), "several Authorization headers"},
		{"two keys", "?hapikey=" + apiKey + "&hapikey=" + apiKey, "", "several hapikeys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := newHub(t)
			hub.SetAccessToken(portal, patToken)
			hub.SetAPIKey(portal, apiKey)
			response := raw(t, hub, "GET /crm"+tt.query+" HTTP/1.1\r\nHost: hub\r\n"+tt.headers+"\r\n")
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			check401(t, answer{response, string(body)}, "INVALID_AUTHENTICATION")
			if diff := cmp.Diff([]string{"GET /crm: " + tt.want}, hub.Violations()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestOAuthPathsRequireNoCredential(t *testing.T) {
	hub := newHub(t)
	e := echoOf(t, do(t, newClient(t, hub), "GET", hub.URL+"/oauth/v1/access-tokens/x", "unknown", nil))
	if e.Portal != "" || e.Credential != "" {
		t.Errorf("credential %q of %q", e.Credential, e.Portal)
	}
}

func TestRequestsAreCountedByPortal(t *testing.T) {
	hub := newHub(t)
	client := newClient(t, hub)
	live, dead := hub.Issue(portal, time.Hour), hub.Issue(portal, 0)
	for _, token := range []string{live, dead, "unknown", hub.Issue("2", time.Hour)} {
		do(t, client, "GET", hub.URL+"/crm", token, nil)
	}
	got := []int{hub.Requests(), hub.RequestsFor(portal), hub.RequestsFor("2"), hub.RequestsFor("3"), hub.Unauthorized()}
	if diff := cmp.Diff([]int{4, 2, 1, 0, 2}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestA401IsGzippedOnlyIfSetAndAccepted(t *testing.T) {
	for _, tt := range []struct {
		name, accept string
		set, want    bool
	}{
		{"not set", "gzip", false, false},
		{"not accepted", "", true, false},
		{"accepted", "br, gzip;q=0.5", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := newHub(t)
			hub.SetGzip401(tt.set)
			r, _ := http.NewRequest("GET", hub.URL+"/crm", nil)
			r.Header.Set("Accept-Encoding", tt.accept)
			a := send(t, newClient(t, hub), r)
			if got := a.Header.Get("Content-Encoding") == "gzip"; got != tt.want {
				t.Fatalf("gzipped %t", got)
			}
			if tt.want {
				a.body = gunzip(t, a.body)
			}
			check401(t, a, "INVALID_AUTHENTICATION")
		})
	}
}

func gunzip(t *testing.T, body string) string {
	t.Helper()
	zipped, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	read, err := io.ReadAll(zipped)
	if err != nil {
		t.Fatal(err)
	}
	return string(read)
}

func TestAnEarly401ComesBeforeTheBody(t *testing.T) {
	hub := newHub(t)
	hub.SetEarly401(true)
	// The request announces a body that it never sends.
	response := raw(t, hub, "POST /crm HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000000\r\n\r\n")
	defer response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestAnOrdinary401ComesAfterTheBody(t *testing.T) {
	hub := newHub(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(hub.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /crm HTTP/1.1\r\nHost: hub\r\nContent-Length: 3\r\n\r\nab")
	until(t, hub, func() bool { return hub.Requests() == 1 })
	if hub.Unauthorized() != 0 {
		t.Error("answered before the end of the body")
	}
	_, _ = io.WriteString(conn, "c")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized || hub.Unauthorized() != 1 {
		t.Errorf("status %d, %d counted", response.StatusCode, hub.Unauthorized())
	}
}
