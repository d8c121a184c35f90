package proxy_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

// head is a request line and a header, of a GET that needs no more.
func head(lines ...string) string {
	return "GET /a HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// rawHeader returns the header lines of a request, but for Host and
// Authorization.
func rawHeader(request string) []string {
	header, _, _ := strings.Cut(request, "\r\n\r\n")
	return slices.DeleteFunc(strings.Split(header, "\r\n")[1:], func(line string) bool {
		return strings.HasPrefix(line, "Host: ") || strings.HasPrefix(line, "Authorization: Bearer "+hubspottest.Canary)
	})
}

func TestHubSpotGetsTheHeaderAsItWasSentAndNothingMore(t *testing.T) {
	for name, test := range map[string]struct{ sent, want []string }{
		"nothing is invented": {},
		"several Authorization headers": {
			sent: []string{"Authorization: Bearer a", "authorization: Bearer b", "AUTHORIZATION: Basic c"},
		},
		"credentials for proxies":          {sent: []string{"Proxy-Authorization: Basic a", "proxy-authorization: Basic b"}},
		"what is ours":                     {sent: []string{"x-hubspot-portal-id: " + portalID, "X-HubSpot-Auth-Proxy-Debug: 1"}},
		"a debug header that asks nothing": {sent: []string{"X-Hubspot-Auth-Proxy-Debug: 0"}},
		"what other proxies added": {
			sent: []string{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: a", "X-Forwarded-Proto: https", "Forwarded: for=a", "Via: 1.1 a", "X-Real-Ip: b"},
			want: []string{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: a", "X-Forwarded-Proto: https", "Forwarded: for=a", "Via: 1.1 a", "X-Real-Ip: b"},
		},
		"several of one name, in order": {
			sent: []string{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8", "X-A: 2", "X-A: 1", "X-A:"},
			want: []string{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8", "X-A: 2", "X-A: 1", "X-A: "},
		},
		"what SDKs send": {
			sent: []string{"User-Agent: hubspot-api-client-python; 12", "Accept: application/json", "Accept-Encoding: br;q=1, *", "Content-Type: application/json", "Cookie: __cf_bm=a; b=c", "If-None-Match: \"x\"", "Range: bytes=0-1"},
			want: []string{"User-Agent: hubspot-api-client-python; 12", "Accept: application/json", "Accept-Encoding: br;q=1, *", "Content-Type: application/json", "Cookie: __cf_bm=a; b=c", "If-None-Match: \"x\"", "Range: bytes=0-1"},
		},
		"an empty User-Agent": {sent: []string{"User-Agent:"}, want: []string{"User-Agent: "}},
		"idempotency keys": {
			sent: []string{"Idempotency-Key: a", "X-Idempotency-Key: b"},
			want: []string{"idempotency-key: a", "x-idempotency-key: b"},
		},
		"bytes that are not ASCII": {sent: []string{"X-A: é\xff"}, want: []string{"X-A: é\xff"}},
		"hop-by-hop headers": {
			sent: []string{"Connection: keep-alive, X-A", "Connection: x-b,, ,Forwarded", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: gzip", "X-A: 1", "X-B: 1", "X-C: 1", "Forwarded: for=a"},
			want: []string{"X-C: 1"},
		},
		"TE: trailers":                             {sent: []string{"TE: trailers, deflate"}, want: []string{"Te: trailers"}},
		"TE: trailers, and Connection says so":     {sent: []string{"Connection: TE, X-A", "TE: deflate;q=0.5, Trailers", "X-A: 1"}, want: []string{"Te: trailers"}},
		"TE without trailers":                      {sent: []string{"Connection: TE", "TE: gzip"}},
		"Connection names Authorization":           {sent: []string{"Connection: Authorization", "Authorization: Bearer a"}},
		"Connection names the portal's header":     {sent: []string{"Connection: X-HubSpot-Portal-Id, X-Hubspot-Auth-Proxy-Debug", "X-HubSpot-Portal-Id: " + portalID}},
		"Connection names what framing needs":      {sent: []string{"Connection: Host, Content-Length, Transfer-Encoding"}},
		"Java's client offers h2c":                 {sent: []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"}},
		"websockets":                               {sent: []string{"Connection: upgrade", "Upgrade: websocket"}},
		"Upgrade without Connection":               {sent: []string{"Upgrade: h2c"}},
		"an expectation of a request without body": {sent: []string{"Expect: 100-continue"}, want: []string{"Expect: 100-continue"}},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := script(t, "HTTP/1.1 204 No Content\r\n\r\n")
			r := start(t, setup{proxy: func(o *proxy.Options) { upstream.set(o); o.Loopback = false }})
			r.connect(portalID)
			got := r.answerTo(head(test.sent...))
			if got.StatusCode != http.StatusNoContent {
				t.Fatalf("status %d %s", got.StatusCode, got.text)
			}
			sent := upstream.request(t)
			lines := rawHeader(sent)
			slices.Sort(lines)
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, lines, emptyIsNil); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := strings.Count(sent, "Authorization: Bearer "+hubspottest.Canary); n != 1 {
				t.Errorf("%d credentials of the portal", n)
			}
			if !strings.Contains(sent, "\r\nHost: "+upstream.url.Host+"\r\n") {
				t.Error("Host is not HubSpot's")
			}
		})
	}
}

var emptyIsNil = cmp.Transformer("emptyIsNil", func(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	return lines
})

func TestAnAPIKeysRequestHasNoAuthorization(t *testing.T) {
	r := startKinds(t, setup{})
	echo := r.arrived(head("Authorization: Bearer a", "Connection: Authorization", "X-HubSpot-Portal-Id: "+keyPortal))
	if diff := cmp.Diff(http.Header{}, echo.Header); diff != "" || echo.Credential != hubspottest.CredentialAPIKey {
		t.Errorf("%s came with (-want +got):\n%s", echo.Credential, diff)
	}
}

func TestABodyKeepsItsFraming(t *testing.T) {
	r := startKinds(t, setup{})
	for name, test := range map[string]struct {
		sent   string
		length int64
		coding []string
		bytes  int64
	}{
		"none":                   {"\r\n", 0, nil, 0},
		"Content-Length":         {"Content-Length: 3\r\n\r\nabc", 3, nil, 3},
		"Content-Length of zero": {"Content-Length: 0\r\n\r\n", 0, nil, 0},
		"chunked":                {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", -1, []string{"chunked"}, 3},
		"chunked, but empty":     {"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -1, []string{"chunked"}, 0},
		"chunked with extension": {"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", -1, []string{"chunked"}, 3},
	} {
		for _, portal := range []string{portalID, keyPortal} {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				echo := r.arrived(method + " /a HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Portal-Id: " + portal + "\r\n" + test.sent)
				got := []any{echo.Method, echo.ContentLength, echo.TransferEncoding, echo.BodyBytes}
				if diff := cmp.Diff([]any{method, test.length, test.coding, test.bytes}, got); diff != "" {
					t.Errorf("%s with %s (-want +got):\n%s", method, name, diff)
				}
			}
		}
	}
}

func TestTrailersOfARequestArrive(t *testing.T) {
	r := startKinds(t, setup{})
	echo := r.arrived("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Part\r\n\r\n" +
		"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Part: a\r\nX-Part: b\r\n\r\n")
	if diff := cmp.Diff(http.Header{"X-Sum": {"1"}, "X-Part": {"a", "b"}}, echo.Trailer); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTrailersCarryNoCredentialOfTheClients(t *testing.T) {
	r := startKinds(t, setup{})
	echo := r.arrived("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Authorization\r\n\r\n" +
		"3\r\nabc\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer a\r\nProxy-Authorization: Basic a\r\nX-HubSpot-Portal-Id: 1\r\n\r\n")
	if diff := cmp.Diff(http.Header{"X-Sum": {"1"}}, echo.Trailer); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTrailersThatConnectionNamesDoNotArrive(t *testing.T) {
	r := startKinds(t, setup{})
	for _, announced := range []string{"", "Trailer: X-Hop, X-Sum\r\n"} {
		echo := r.arrived("POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: x-hop\r\nTransfer-Encoding: chunked\r\n" + announced +
			"\r\n3\r\nabc\r\n0\r\nX-Hop: 1\r\nX-Sum: 1\r\n\r\n")
		if diff := cmp.Diff(http.Header{"X-Sum": {"1"}}, echo.Trailer); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestTrailersThatWereNotAnnouncedArrive(t *testing.T) {
	r := startKinds(t, setup{})
	echo := r.arrived("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
	if diff := cmp.Diff(http.Header{"X-Sum": {"1"}}, echo.Trailer); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// twoCredentials gives one that HubSpot rejects, and then another one.
type twoCredentials struct {
	bad, good *tokens.Credential
	renewing  chan func() // what to do while there is no other yet
}

func (c twoCredentials) Credential(context.Context, string) (*tokens.Credential, error) {
	return c.bad, nil
}

func (c twoCredentials) Renew(context.Context, *tokens.Credential, bool) (*tokens.Credential, error) {
	go (<-c.renewing)()
	return c.good, nil
}

// The first attempt's transport may still read the body, and with its end the
// trailers, while the second one's writes their names. The race detector finds
// it in one of some dozen tries.
func TestTrailersOfTwoAttemptsDoNotMeet(t *testing.T) {
	credentials := twoCredentials{
		bad:      tokens.Static(staticPortal, tokens.AccessToken, secret.New("hst-canary-bad")),
		good:     tokens.Static(staticPortal, tokens.AccessToken, secret.New(staticToken)),
		renewing: make(chan func(), 1),
	}
	r := start(t, setup{proxy: func(o *proxy.Options) { o.Credentials = credentials }})
	r.hub.SetAccessToken(staticPortal, staticToken)
	r.hub.SetEarly401(true)
	for range 60 {
		conn := r.raw("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-A, X-B, X-C\r\n\r\n3\r\nabc\r\n")
		credentials.renewing <- func() { _, _ = io.WriteString(conn, "0\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n\r\n") }
		got := receive(t, reading(conn), http.MethodPost)
		echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(http.Header{"X-A": {"1"}, "X-B": {"2"}, "X-C": {"3"}}, echo.Trailer); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func TestOneContinueComesWhenHubSpotReadsTheBody(t *testing.T) {
	r := startKinds(t, setup{})
	for i := range 100 { // some would have two of them
		portal := []string{portalID, keyPortal}[i%2]
		conn := r.raw("POST /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\nX-HubSpot-Portal-Id: " + portal + "\r\n\r\n")
		from := reading(conn)
		if got := receive(t, from, http.MethodPost); got.StatusCode != http.StatusContinue {
			t.Fatalf("status %d before the body was sent", got.StatusCode)
		}
		_, _ = conn.Write([]byte("abc"))
		got := receive(t, from, http.MethodPost)
		echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
		if err != nil || got.StatusCode != http.StatusOK {
			t.Fatalf("then status %d: %v", got.StatusCode, err)
		}
		if echo.BodyBytes != 3 || echo.Header.Get("Expect") != "100-continue" {
			t.Errorf("%d bytes came, and %v", echo.BodyBytes, echo.Header)
		}
	}
}
