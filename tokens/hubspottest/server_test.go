package hubspottest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const portal = "62515"

// newHub starts a server that is closed when the test ends.
func newHub(t *testing.T) *hubspottest.Server {
	t.Helper()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	return hub
}

// newClient returns a client of hub that follows no redirects and does not decompress
// answers.
func newClient(t *testing.T, hub *hubspottest.Server) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:    hub.ClientTLS(),
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a response and its body.
type answer struct {
	*http.Response
	body string
}

// do sends a request. If bearer is not empty, the request has it as its bearer token.
func do(t *testing.T, c *http.Client, method, target, bearer string, body io.Reader) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return send(t, c, r)
}

func send(t *testing.T, c *http.Client, r *http.Request) answer {
	t.Helper()
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, string(read)}
}

func echoOf(t *testing.T, a answer) hubspottest.Echo {
	t.Helper()
	if a.StatusCode != http.StatusOK {
		t.Fatalf("status %d, body %s", a.StatusCode, a.body)
	}
	e, err := hubspottest.DecodeEcho(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func fields(t *testing.T, body string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	return m
}

// until waits up to 10 s for condition.
func until(t *testing.T, hub *hubspottest.Server, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := hub.Until(ctx, condition); err != nil {
		t.Fatal(err)
	}
}

func TestEveryVariantEchoesOverItsProtocol(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func() *hubspottest.Server
		proto string
	}{
		{"plain", hubspottest.NewServer, "HTTP/1.1"},
		{"TLS", func() *hubspottest.Server { return hubspottest.NewTLSServer(false) }, "HTTP/1.1"},
		{"TLS, HTTP/2", func() *hubspottest.Server { return hubspottest.NewTLSServer(true) }, "HTTP/2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := tt.start()
			defer hub.Close()
			e := echoOf(t, do(t, newClient(t, hub), "GET", hub.URL+"/crm", hub.Issue(portal, time.Hour), nil))
			if e.Proto != tt.proto {
				t.Errorf("proto %s, want %s", e.Proto, tt.proto)
			}
		})
	}
}

func TestAnyTargetIsEchoedByteForByte(t *testing.T) {
	hub := newHub(t)
	token := hub.Issue(portal, time.Hour)
	for _, target := range []string{
		"/", "//crm//x", "/a/../b/./c", "/a%2Fb%2f?x=%zz&;y", "/?", "/crm?a=1?b#", "/caf\xe9?q=\xff\xfe", "/%C3%A9<&>",
		"http://other.example/crm?x=1", "*",
	} {
		t.Run(target, func(t *testing.T) {
			method := "GET"
			if target == "*" {
				method = "OPTIONS"
			}
			response := raw(t, hub, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer %s\r\n"+
				"X-Latin: caf\xe9\r\nConnection: close\r\n\r\n", method, target, token))
			defer response.Body.Close()
			e, err := hubspottest.DecodeEcho(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if e.Target != target || e.Header.Get("X-Latin") != "caf\xe9" {
				t.Errorf("target %q, header %q", e.Target, e.Header.Get("X-Latin"))
			}
		})
	}
}

// raw sends the request byte for byte, and reads the header of the answer.
func raw(t *testing.T, hub *hubspottest.Server, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(hub.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestCloseEndsHangingHandlersAndMayBeRepeated(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			hub := hubspottest.NewTLSServer(http2)
			defer hub.Close()
			hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
			token, refresh := hub.Issue(portal, time.Hour), hub.Connect(portal)
			client := newClient(t, hub)

			failed := make(chan error, 4)
			for _, path := range []string{"/fake/hang", "/fake/hang?unread=1", "/fake/events?n=2"} {
				go func() {
					r, _ := http.NewRequest("POST", hub.URL+path, strings.NewReader("body"))
					r.Header.Set("Authorization", "Bearer "+token)
					response, err := client.Do(r)
					if err == nil { // the stream of events has begun
						_, err = io.ReadAll(response.Body)
						response.Body.Close()
					}
					failed <- err
				}()
			}
			go func() {
				response, err := client.PostForm(hub.TokenURL(), refreshForm(refresh))
				if err == nil {
					response.Body.Close()
				}
				failed <- err
			}()
			until(t, hub, func() bool { return hub.Requests() == 3 && hub.TokenCallsTotal() == 1 })

			hub.Close()
			hub.Close()
			for range cap(failed) {
				if err := <-failed; err == nil {
					t.Error("a hanging request was answered")
				}
			}
			if hub.Cancelled() != 0 {
				t.Errorf("%d requests are counted as cancelled", hub.Cancelled())
			}
			if _, err := client.Get(hub.URL); err == nil {
				t.Error("the server still answers")
			}
		})
	}
}

func TestUntilEndsWithItsContextAndWithTheServer(t *testing.T) {
	hub := newHub(t)
	never := func() bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := hub.Until(ctx, never); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	hub.Close()
	if err := hub.Until(t.Context(), never); err == nil {
		t.Error("closed: no error")
	}
}

func TestExpireHasAPathForCurl(t *testing.T) {
	hub := newHub(t)
	client := newClient(t, hub)
	token := hub.Issue(portal, time.Hour)

	if a := do(t, client, "POST", hub.URL+"/fake/expire/1", "", nil); a.StatusCode != http.StatusNotFound {
		t.Errorf("unknown portal: %d", a.StatusCode)
	}
	if a := do(t, client, "POST", hub.URL+"/fake/expire/"+portal, "", nil); a.StatusCode != http.StatusOK {
		t.Errorf("known portal: %d", a.StatusCode)
	}
	a := do(t, client, "GET", hub.URL+"/crm", token, nil)
	if got := fields(t, a.body)["category"]; got != "EXPIRED_AUTHENTICATION" {
		t.Errorf("category %v", got)
	}
	if hub.Requests() != 1 {
		t.Errorf("%d requests counted", hub.Requests())
	}
}

func TestAnEchoHasTheWholeRequest(t *testing.T) {
	hub := newHub(t)
	token := hub.Issue(portal, time.Hour)
	response := raw(t, hub, "PATCH /crm/v3?b=2&a=1 HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer "+token+
		"\r\nX-Two: 1\r\nX-Two: 2\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n3\r\nabc\r\n0\r\nX-End: yes\r\n\r\n")
	defer response.Body.Close()
	got, err := hubspottest.DecodeEcho(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := hubspottest.Echo{
		Method: "PATCH",
		Target: "/crm/v3?b=2&a=1",
		Host:   "api.example",
		Proto:  "HTTP/1.1",
		Header: http.Header{
			"Authorization": {"Bearer " + token},
			"X-Two":         {"1", "2"},
		},
		ContentLength:    -1,
		TransferEncoding: []string{"chunked"},
		BodyBytes:        3,
		BodySHA256:       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		Trailer:          http.Header{"X-End": {"yes"}},
		Portal:           portal,
		Credential:       hubspottest.CredentialOAuth,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if response.ContentLength <= 0 {
		t.Errorf("the echo has Content-Length %d", response.ContentLength)
	}
}

func TestDecodingAnotherBodyFails(t *testing.T) {
	if _, err := hubspottest.DecodeEcho(strings.NewReader("<html>")); err == nil {
		t.Error("no error")
	}
}

func refreshForm(refreshToken string) url.Values {
	return url.Values{
		"grant_type":    {"refresh_token"},
		"client_id":     {hubspottest.ClientID},
		"client_secret": {hubspottest.ClientSecret},
		"refresh_token": {refreshToken},
	}
}
