package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestCurlSpeaksHTTP2WithPriorKnowledge(t *testing.T) {
	testkit.Need(t, "curl")
	r := startKinds(t, setup{})
	out, err := exec.Command("curl", "-s", "--http2-prior-knowledge", "--max-time", "10", "-w", "\n%{http_version} %{http_code}", "-d", "a=b", r.url("/portals/62516/a?b")).CombinedOutput()
	text, version, _ := strings.Cut(string(out), "\n2 ")
	echo, decoded := hubspottest.DecodeEcho(strings.NewReader(text))
	if err != nil || decoded != nil || version != "200" || echo.Portal != staticPortal || echo.Target != "/a?b" || echo.BodyBytes != 3 {
		t.Errorf("%v, %v: %s", err, decoded, out)
	}
	line := r.accessLog(1)[0]
	if line.Method != "POST" || line.Status != 200 {
		t.Errorf("%+v", line)
	}
}

func TestOverHTTP2WithPriorKnowledgeAllPasses(t *testing.T) {
	eachHTTP2(t, func(t *testing.T, secured bool) {
		set, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, strings.ToUpper(string(body))+r.Trailer.Get("X-Sent"))
			w.Header().Set("X-Sum", "1")
		})
		r := start(t, setup{proxy: set})
		r.seed(portalID, tokens.AccessToken, staticToken)
		server := r.overHTTP2(secured)
		var hints []int
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			hints = append(hints, code)
			return nil
		}})
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/a", io.MultiReader(strings.NewReader("abc")))
		request.Trailer = http.Header{"X-Sent": {"d"}}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		got := fmt.Sprint(response.Proto, response.StatusCode, string(text), err, response.Trailer, hints)
		if diff := cmp.Diff(fmt.Sprint("HTTP/2.0", 200, "ABCd", nil, http.Header{"X-Sum": {"1"}}, []int{103}), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// An answer that comes before the body has been sent ends the stream, and no
// other: nothing of the body is taken for a request.
func TestOverHTTP2AnEarlyAnswerEndsItsStreamOnly(t *testing.T) {
	eachHTTP2(t, func(t *testing.T, secured bool) {
		r := startKinds(t, setup{proxy: noDefault})
		server := r.overHTTP2(secured)
		reader, writer := io.Pipe()
		defer writer.Close()
		response, err := server.Client().Post(server.URL+"/a", "a/b", reader)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest || response.Header.Get("X-Hubspot-Auth-Proxy-Error") != "PORTAL_REQUIRED" {
			t.Errorf("status %d", response.StatusCode)
		}
		go func() { _, _ = io.WriteString(writer, smuggled) }()
		if status, _ := get(t, server.Client(), server.URL+"/portals/62515/a"); status != http.StatusOK {
			t.Errorf("status %d afterwards", status)
		}
		if n := r.hub.Requests(); n != 1 {
			t.Errorf("%d requests reached HubSpot", n)
		}
	})
}

func get(t *testing.T, client *http.Client, url string) (status int, header http.Header) {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode, response.Header
}

func TestOverHTTP2TheSameCallsAreRefused(t *testing.T) {
	eachHTTP2(t, func(t *testing.T, secured bool) {
		for _, loopback := range []bool{true, false} {
			c := startKeyed(t, anonymous, func(o *proxy.Options) { o.Loopback, o.PortalDomain = loopback, "localhost" })
			server := c.overHTTP2(secured)
			for host, want := range map[string]string{
				"evil.example": "403 BROWSER_REFUSED", "localhost": "200 ", "127.0.0.1:1": "200 ", "62517.localhost": "200 ", "x.localhost": "400 PORTAL_INVALID",
			} {
				request, _ := http.NewRequest(http.MethodGet, server.URL+"/a", nil)
				request.Host = host
				response, err := server.Client().Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if got := fmt.Sprint(response.StatusCode, " ", response.Header.Get("X-Hubspot-Auth-Proxy-Error")); got != want {
					t.Errorf("loopback %t, %s: %s, want %s", loopback, host, got, want)
				}
			}
		}
	})
}

func TestOverHTTP2AHeaderIsLimited(t *testing.T) {
	eachHTTP2(t, func(t *testing.T, secured bool) {
		r := startKinds(t, setup{})
		server := r.overHTTP2(secured)
		for size, want := range map[int]int{100 << 10: http.StatusOK, 200 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			request, _ := http.NewRequest(http.MethodGet, server.URL+"/a", nil)
			for i := range size / 1024 {
				request.Header.Set(fmt.Sprint("X-A-", i), strings.Repeat("a", 1000))
			}
			response, err := server.Client().Do(request)
			if err != nil {
				if want == http.StatusOK {
					t.Error(err)
				}
				continue // the client itself keeps to the limit that it was given
			}
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%d bytes: status %d, want %d", size, response.StatusCode, want)
			}
		}
	})
}

// A preface that does not come to its end holds its connection no longer than a
// header does.
func TestHalfAPrefaceEnds(t *testing.T) {
	t.Parallel()
	r := startKinds(t, setup{})
	server := r.proxy.Server()
	server.ReadHeaderTimeout = 200 * time.Millisecond
	r.addr = listen(t, func(l net.Listener) { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close() })
	for _, begin := range []string{"P", "PRI * HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n"} {
		conn := r.raw(begin)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if answer, err := io.ReadAll(conn); isTimeout(err) || strings.Contains(string(answer), "200 OK") {
			t.Errorf("%q goes on: %q, %v", begin, answer, err)
		}
	}
	for _, request := range []string{"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\n", "PRI * HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
		"PRI * HTTP/2.0\r\nHost: localhost\r\nContent-Length: 70\r\n\r\n" + smuggled} {
		conn := r.raw(request)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		first := make([]byte, len("HTTP/1.1 400"))
		if n, _ := io.ReadFull(conn, first); string(first[:n]) != "HTTP/1.1 400" {
			t.Errorf("%q: %q", request, first[:n])
		}
		_ = conn.Close()
	}
	if n := r.hub.Requests(); n != 0 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

func TestAShutdownWaitsForStreamsOfHTTP2(t *testing.T) {
	eachHTTP2(t, func(t *testing.T, secured bool) {
		release := make(chan struct{})
		set, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, "the end")
		})
		r := start(t, setup{proxy: set})
		r.seed(portalID, tokens.AccessToken, staticToken)
		server := r.overHTTP2(secured)
		response, err := server.Client().Get(server.URL + "/a")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		r.proxy.Stopping()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var stopping sync.WaitGroup
		stopping.Go(func() {
			if err := server.Config.Shutdown(ctx); err != nil {
				t.Errorf("shutting down: %v", err)
			}
		})
		close(release)
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != "the end" {
			t.Errorf("%q, %v", text, err)
		}
		stopping.Wait()
	})
}

// net/http's server takes a malformed Content-Length of HTTP/2 for 0.
func TestOverHTTP2AMalformedLengthIsRefused(t *testing.T) {
	r := startKinds(t, setup{})
	for length, want := range map[string]string{"0": "200", "abc": "400", "+0": "400", "0, 0": "400"} {
		if status := statusOverHTTP2(t, r.addr, [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":authority", "localhost"}, {":path", "/a"}, {"content-length", length},
		}); status != want {
			t.Errorf("length %q: status %s, want %s", length, status, want)
		}
	}
	if n := r.hub.Requests(); n != 1 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

// statusOverHTTP2 sends one request without a body in frames made by hand, and
// returns the status of the answer (RFC 9113 section 4, RFC 7541 section 6).
func statusOverHTTP2(t *testing.T, addr string, fields [][2]string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var block []byte
	for _, field := range fields {
		block = append(block, 0) // a literal that is not indexed
		for _, text := range field {
			block = append(append(block, byte(len(text))), text...)
		}
	}
	const headers, settings = 1, 4
	message := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, 0, 0, settings, 0, 0, 0, 0, 0)
	message = append(message, 0, 0, byte(len(block)), headers, 5, 0, 0, 0, 1) // the last frame of stream 1
	if _, err := conn.Write(append(message, block...)); err != nil {
		t.Fatal(err)
	}
	for {
		var frame [9]byte
		if _, err := io.ReadFull(conn, frame[:]); err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, int(frame[0])<<16|int(frame[1])<<8|int(frame[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			t.Fatal(err)
		}
		if frame[3] == headers {
			return indexedStatus(payload[0])
		}
	}
}

// indexedStatus returns the status that HPACK's static table has at an index.
func indexedStatus(field byte) string {
	return map[byte]string{0x88: "200", 0x8c: "400", 0x8d: "404", 0x8e: "500"}[field]
}
