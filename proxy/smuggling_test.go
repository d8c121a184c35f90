package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
)

// smuggled is what must never be taken for a request.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

// ends reports whether the proxy ends the connection without another answer.
func ends(t *testing.T, from *bufio.Reader) bool {
	t.Helper()
	rest, err := io.ReadAll(from)
	if len(rest) > 0 {
		t.Errorf("after the answer came %q", rest)
	}
	// Reset, if bytes of ours were not read any more.
	return err == nil || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}

// answersOn sends bytes on one connection, and returns the status of every
// final answer until it ends.
func (r *rig) answersOn(bytes string) (statuses []int, ended bool) {
	r.t.Helper()
	conn := r.raw(bytes)
	defer conn.Close()
	from := reading(conn)
	for {
		response, err := http.ReadResponse(from, nil)
		if err != nil {
			var timeout net.Error
			return statuses, !(errors.As(err, &timeout) && timeout.Timeout())
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode >= 200 {
			statuses = append(statuses, response.StatusCode)
		}
		if response.Close {
			// The proxy lingers for the rest of a body.
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		}
	}
}

func TestNoByteOfABodyIsTakenForARequest(t *testing.T) {
	long := strings.Repeat("x", 300<<10) // more than net/http reads after an answer
	for name, test := range map[string]struct {
		sent   string
		status int
		hub    int // requests that HubSpot gets
	}{
		"refused, Content-Length":         {"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n" + smuggled, 400, 0},
		"refused, Content-Length, whole":  {"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc" + smuggled, 400, 0},
		"refused, chunked":                {"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled, 400, 0},
		"refused, chunked, whole":         {"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, 0},
		"refused, long":                   {"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + long + smuggled, 400, 0},
		"refused, waits for 100":          {"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n" + smuggled, 400, 0},
		"TRACE with a body":               {"TRACE /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n" + smuggled, 405, 0},
		"CONNECT":                         {"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n" + smuggled, 405, 0},
		"a web page's":                    {"POST /a HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 99\r\n\r\n" + smuggled, 403, 0},
		"a portal that is not connected":  {"POST /portals/1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n" + smuggled, 403, 0},
		"malformed chunk size":            {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + smuggled, 400, 1},
		"malformed chunk end":             {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + smuggled, 400, 1},
		"negative chunk":                  {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + smuggled, 400, 1},
		"overlong chunk size":             {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n" + smuggled, 400, 1},
		"malformed trailer":               {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nnone\r\n\r\n" + smuggled, 400, 1},
		"a line break within the size":    {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n" + smuggled, 400, 1},
		"both framings":                   {"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 200, 1},
		"both framings, the other way":    {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\n" + smuggled, 200, 1},
		"two lengths":                     {"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc" + smuggled, 400, 0},
		"a list of lengths":               {"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3, 0\r\n\r\nabc" + smuggled, 400, 0},
		"a signed length":                 {"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc" + smuggled, 400, 0},
		"unknown coding":                  {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, 501, 0},
		"several codings":                 {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled, 501, 0},
		"several Transfer-Encodings":      {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, 501, 0},
		"a space before the colon":        {"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, 0},
		"a bare carriage return":          {"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: b\rX-C: d\r\n\r\n" + smuggled, 400, 0},
		"a NUL in a header":               {"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: b\x00\r\n\r\n" + smuggled, 400, 0},
		"two Hosts":                       {"GET /a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n" + smuggled, 400, 0},
		"a space in the target":           {"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n" + smuggled, 400, 0},
		"a control character in a target": {"GET /a\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n" + smuggled, 400, 0},
	} {
		for where, start := range map[string]func(testing.TB, setup) *rig{"": startKinds, ", in a tunnel": startInTunnels} {
			t.Run(name+where, func(t *testing.T) {
				r := start(t, setup{})
				statuses, ended := r.answersOn(test.sent)
				if diff := cmp.Diff([]int{test.status}, statuses); diff != "" || !ended {
					t.Errorf("ended: %v, statuses (-want +got):\n%s", ended, diff)
				}
				if n := r.hub.Requests(); n > test.hub {
					t.Errorf("HubSpot got %d requests", n)
				}
				if n := len(r.hub.Violations()); n != 0 {
					t.Errorf("%d violations", n)
				}
			})
		}
	}
}

func TestAnEarly401EndsTheConnectionOfABodyThatIsStillToCome(t *testing.T) {
	for _, framing := range []string{"Content-Length: 999999\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nf4240\r\n"} {
		r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.RetryBodyLimit = 0 }})
		r.hub.RejectAll(staticPortal, true)
		r.hub.SetEarly401(true)
		conn := r.raw("POST /portals/62516/a HTTP/1.1\r\nHost: localhost\r\n" + framing + "abc")
		from := reading(conn)
		if got := receive(t, from, http.MethodPost); got.StatusCode != http.StatusUnauthorized || !got.Close {
			t.Fatalf("status %d, closed: %v", got.StatusCode, got.Close)
		}
		before := r.hub.Requests()
		_, _ = io.WriteString(conn, smuggled)
		_ = conn.(*net.TCPConn).CloseWrite() // the proxy lingers for the rest
		if !ends(t, from) {
			t.Error("the connection goes on")
		}
		if n := r.hub.Requests() - before; n != 0 {
			t.Errorf("HubSpot got %d more requests", n)
		}
	}
}

func TestAFoldedHeaderArrivesAsOneLine(t *testing.T) {
	upstream := script(t, "HTTP/1.1 204 No Content\r\n\r\n")
	r := start(t, setup{proxy: upstream.set})
	r.connect(portalID)
	r.answerTo("GET /a HTTP/1.1\nHost: localhost\nX-A: b\n  Authorization: Bearer c\nX-D: e\n\n")
	got := rawHeader(upstream.request(t))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"X-A: b Authorization: Bearer c", "X-D: e"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAConnectionGoesOnAfterWhatIsOrdinary(t *testing.T) {
	r := startKinds(t, setup{})
	conn := r.raw("")
	from := reading(conn)
	for range 3 {
		for _, test := range []struct {
			request string
			status  int
		}{
			{head(), 200},
			{"HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
			{"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 200},
			{"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 200},
			{"PATCH /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200000), 200},
			{"GET /fake/status?code=429 HTTP/1.1\r\nHost: localhost\r\n\r\n", 429},
			{"GET /fake/trailers HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
			{"GET /portals/x/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
			{"GET /portals/1/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 403},
			{"TRACE /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
			{"POST /portals/x/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 400},
		} {
			if _, err := io.WriteString(conn, test.request); err != nil {
				t.Fatal(err)
			}
			method, _, _ := strings.Cut(test.request, " ")
			if got := receive(t, from, method); got.StatusCode != test.status || got.Close {
				t.Fatalf("%.60q: status %d, closed: %v", test.request, got.StatusCode, got.Close)
			}
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	r := startKinds(t, setup{})
	post := "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
	statuses, _ := r.answersOn(head() + post + "GET /portals/x/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + post + head("Connection: close"))
	if diff := cmp.Diff([]int{200, 200, 400, 200, 200}, statuses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An HTTP/1.0 message with Transfer-Encoding is framed wrongly (RFC 9112
// section 6.1); net/http ignores that header then, and does not tell.
func TestAChunkedBodyOfHTTP10IsTakenForNoRequest(t *testing.T) {
	r := startKinds(t, setup{})
	statuses, _ := r.answersOn("POST /a HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled)
	if len(statuses) != 1 || r.hub.Requests() > 1 {
		t.Errorf("answers %v, %d requests", statuses, r.hub.Requests())
	}
}
