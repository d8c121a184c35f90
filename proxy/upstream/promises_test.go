package upstream_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/tokens/testkit"
)

// The tests follow the order of the promises in the package comment. Those of time are in
// promises_time_test.go.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ways are the two ways to a server of plain HTTP/1.1.
var ways = map[string]upstream.Config{"direct": {}, "standard": {HTTP2: true}}

// site is a server whose connections the test serves by hand, and a transport to it.
type site struct {
	*upstream.Transport
	url         string
	connections atomic.Int64
}

// overEachWay runs a test for each of the two ways. serve gets each connection and its
// number, beginning with 1.
func overEachWay(t *testing.T, serve func(n int64, conn net.Conn, from *bufio.Reader), test func(t *testing.T, s *site)) {
	t.Helper()
	for name, config := range ways {
		t.Run(name, func(t *testing.T) { test(t, start(t, config, serve)) })
	}
}

func start(t *testing.T, config upstream.Config, serve func(n int64, conn net.Conn, from *bufio.Reader)) *site {
	t.Helper()
	s := new(site)
	address := testkit.Serve(t, func(conn net.Conn) { serve(s.connections.Add(1), conn, bufio.NewReader(conn)) })
	config.URL = &url.URL{Scheme: "http", Host: address}
	s.Transport, s.url = upstream.New(config), config.URL.String()
	t.Cleanup(s.CloseIdleConnections)
	return s
}

// answering answers each request with the same bytes, and sends the request's header to
// a channel.
func answering(answer string, heads chan<- string) func(int64, net.Conn, *bufio.Reader) {
	return func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			head, err := readHead(from)
			if err != nil {
				return
			}
			select {
			case heads <- head:
			default: // the test does not read it
			}
			_, _ = io.WriteString(conn, answer)
		}
	}
}

func readHead(from *bufio.Reader) (string, error) {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := from.ReadString('\n')
		if err != nil {
			return "", err
		}
		head.WriteString(line)
	}
	return head.String(), nil
}

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"

// send sends a request, and reads the whole answer.
func (s *site) send(r *http.Request) (status int, body string, err error) {
	response, err := s.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	return response.StatusCode, string(text), err
}

func (s *site) request(t *testing.T, method, target string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["User-Agent"] = nil
	return r
}

// Section 2.

func TestARequestIsWrittenAsItIs(t *testing.T) {
	heads := make(chan string, 16)
	overEachWay(t, answering(fine, heads), func(t *testing.T, s *site) {
		r := s.request(t, "GET", "/a", nil)
		r.Header["X-A"] = []string{"1", "2"}
		if _, _, err := s.send(r); err != nil {
			t.Fatal(err)
		}
		want := "GET /a HTTP/1.1\r\nHost: " + strings.TrimPrefix(s.url, "http://") + "\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
		if got := <-heads; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestALineBreakInAValueIsSentAsASpace(t *testing.T) {
	heads := make(chan string, 16)
	s := start(t, ways["direct"], answering(fine, heads)) // http.Transport refuses it
	r := s.request(t, "GET", "/a", nil)
	r.Header["X-A"] = []string{"1\r\nX-B: 2"}
	_, _, _ = s.send(r)
	if got := <-heads; !strings.Contains(got, "X-A: 1  X-B: 2\r\n") {
		t.Errorf("%q", got)
	}
}

func TestAHeaderOfMoreThanAMegabyteIsAnError(t *testing.T) {
	for name, answer := range map[string]string{
		"one":                strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 1100),
		"informational ones": strings.Repeat("\r\nHTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("a", 1000)+"\r\n", 1100),
	} {
		heads := make(chan string, 16)
		overEachWay(t, answering("HTTP/1.1 200 OK\r\n"+answer+"\r\n", heads), func(t *testing.T, s *site) {
			if strings.Contains(answer, "103") {
				s = start(t, ways[strings.Split(t.Name(), "/")[1]], answering(strings.TrimPrefix(answer, "\r\n")+"\r\n"+fine, heads))
			}
			if _, _, err := s.send(s.request(t, "GET", "/a", nil)); err == nil {
				t.Errorf("%s: no error", name)
			}
		})
	}
}

// Section 3.

func TestTheTargetIsSentByteForByte(t *testing.T) {
	heads := make(chan string, 16)
	overEachWay(t, answering(fine, heads), func(t *testing.T, s *site) {
		for _, target := range []string{"/a%2Fb?c=%zz;d", "/a//b/../c", "/|^"} {
			r := s.request(t, "GET", "/", nil)
			r.URL = &url.URL{Scheme: "http", Host: r.URL.Host, Opaque: target}
			if path, query, has := strings.Cut(target, "?"); has {
				r.URL.Opaque, r.URL.RawQuery = path, query
			}
			r.Host = "other.example"
			if _, _, err := s.send(r); err != nil {
				t.Fatal(err)
			}
			if got := <-heads; !strings.HasPrefix(got, "GET "+target+" HTTP/1.1\r\nHost: other.example\r\n") {
				t.Errorf("%q was sent as %q", target, got)
			}
		}
	})
}

// Section 4.

func TestInformationalAnswersComeOnceEach(t *testing.T) {
	heads := make(chan string, 16)
	const early = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
	overEachWay(t, answering(early+early+fine, heads), func(t *testing.T, s *site) {
		var got []int
		r := s.request(t, "GET", "/a", nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, _ textproto.MIMEHeader) error {
			got = append(got, status)
			return nil
		}}))
		status, body, err := s.send(r)
		if fmt.Sprint(got) != "[103 102 103 102]" || status != http.StatusOK || body != "fine" || err != nil {
			t.Errorf("%v, then %d %q %v", got, status, body, err)
		}
	})
}

func TestAfter101TheConnectionIsClosed(t *testing.T) {
	heads := make(chan string, 16)
	s := start(t, ways["direct"], answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", heads))
	for i := int64(1); i <= 2; i++ {
		if status, _, err := s.send(s.request(t, "GET", "/a", nil)); status != http.StatusSwitchingProtocols || err != nil || s.connections.Load() != i {
			t.Errorf("status %d, %v, %d connections", status, err, s.connections.Load())
		}
	}
}

// Section 5.

func TestAnAnswerIsNotDecoded(t *testing.T) {
	heads := make(chan string, 16)
	overEachWay(t, answering("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", heads), func(t *testing.T, s *site) {
		response, err := s.RoundTrip(s.request(t, "GET", "/a", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if string(text) != "abc" || err != nil || response.Header.Get("Content-Encoding") != "gzip" || strings.Contains(<-heads, "Accept-Encoding") {
			t.Errorf("%q, %v, %v", text, err, response.Header)
		}
	})
}

// Section 6.

func echo(_ int64, conn net.Conn, from *bufio.Reader) {
	for {
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		text := fmt.Sprint(r.ContentLength, r.TransferEncoding, r.Trailer, string(body))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
}

// ending calls a function when it was read to its end.
type ending struct {
	io.Reader
	end func()
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err == io.EOF {
		e.end()
	}
	return n, err
}

func TestABodyIsFramedAsItsRequestSays(t *testing.T) {
	overEachWay(t, echo, func(t *testing.T, s *site) {
		if _, body, err := s.send(s.request(t, "POST", "/a", strings.NewReader("abc"))); body != "3 [] map[]abc" || err != nil {
			t.Errorf("with a length: %q, %v", body, err)
		}
		r := s.request(t, "POST", "/a", nil)
		r.Trailer, r.ContentLength = http.Header{"X-Sum": nil}, -1
		r.Body = io.NopCloser(&ending{strings.NewReader("abc"), func() { r.Trailer["X-Sum"] = []string{"1"} }})
		if _, body, err := s.send(r); body != "-1 [chunked] map[X-Sum:[1]]abc" || err != nil {
			t.Errorf("without: %q, %v", body, err)
		}
	})
}

func TestABodyOfAnotherLengthIsNeverCompleted(t *testing.T) {
	var completed atomic.Int64
	overEachWay(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err == nil && r.Method == "POST" && r.ContentLength == 5 {
				completed.Add(1)
			}
		}
	}, func(t *testing.T, s *site) {
		for _, text := range []string{"abc", ""} {
			r := s.request(t, "POST", "/a", nil)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), 5
			if _, _, err := s.send(r); err == nil {
				t.Errorf("%q: no error", text)
			}
		}
		if n := completed.Load(); n != 0 {
			t.Errorf("%d were completed", n)
		}
	})
}

func TestAfterExpectTheBodyIsSentOnlyWhenTheServerAsksForIt(t *testing.T) {
	var asks atomic.Bool
	s := start(t, ways["direct"], func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			if _, err := readHead(from); err != nil {
				return
			}
			if !asks.Load() {
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 3)
			_, _ = io.ReadFull(from, body)
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%s", body)
		}
	})
	for _, asked := range []bool{true, false} {
		asks.Store(asked)
		var read atomic.Bool
		r := s.request(t, "POST", "/a", nil)
		r.Header.Set("Expect", "100-continue")
		r.Body, r.ContentLength = io.NopCloser(&ending{strings.NewReader("abc"), func() { read.Store(true) }}), 3
		began := time.Now()
		status, body, err := s.send(r)
		if read.Load() != asked || status != map[bool]int{true: 200, false: 413}[asked] || err != nil || asked && body != "abc" {
			t.Errorf("asked for: %v, read: %v, status %d %q, %v", asked, read.Load(), status, body, err)
		}
		if took := time.Since(began); took > 900*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	}
}

func TestOnWaitIsNotCalledBeforeBytesThatHaveArrived(t *testing.T) {
	more := make(chan struct{})
	s := start(t, ways["direct"], func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			if _, err := readHead(from); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhere")
			<-more
			_, _ = io.WriteString(conn, "more")
		}
	})
	for range 3 {
		response, err := s.RoundTrip(s.request(t, "GET", "/a", nil))
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		response.Body.(upstream.Body).OnWait(func() {
			if string(text) == "here" { // at another point, the next byte may not have arrived yet
				more <- struct{}{}
			}
		})
		for buffer := make([]byte, 1); err == nil; {
			var n int
			n, err = response.Body.Read(buffer)
			text = append(text, buffer[:n]...)
		}
		if string(text) != "heremore" || err != io.EOF {
			t.Errorf("%q, %v", text, err)
		}
		_ = response.Body.Close()
	}
}

// Section 8.

func TestTheBytesOfABrokenAnswerAreFollowedByAnError(t *testing.T) {
	for _, answer := range []string{
		"Content-Length: 9\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
	} {
		overEachWay(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
			if _, err := readHead(from); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+answer)
			}
		}, func(t *testing.T, s *site) {
			status, body, err := s.send(s.request(t, "GET", "/a", nil))
			if status != http.StatusOK || body != "hello" || err == nil {
				t.Errorf("%q: status %d %q, %v", answer, status, body, err)
			}
		})
	}
}

// An answer without a length ends with its connection, and TLS shows whether that is the end.
func TestOnlyCloseNotifyEndsATLSAnswerWithoutALength(t *testing.T) {
	server := httptest.NewTLSServer(nil) // only for its certificate
	t.Cleanup(server.Close)
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	for _, notified := range []bool{true, false} {
		address := testkit.Serve(t, func(conn net.Conn) {
			secure := tls.Server(conn, &tls.Config{Certificates: server.TLS.Certificates})
			if _, err := readHead(bufio.NewReader(secure)); err == nil {
				_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\n\r\nhello")
			}
			if notified {
				_ = secure.CloseWrite()
			}
		})
		via := &url.URL{Scheme: "http", Host: connectProxy(t, address), User: url.UserPassword(proxyUser, proxyPassword)}
		server, proxied := &url.URL{Scheme: "https", Host: address}, &url.URL{Scheme: "https", Host: "example.com"}
		for name, config := range map[string]upstream.Config{
			"direct": {URL: server}, "standard": {URL: server, HTTP2: true}, "with a timeout": {URL: server, HTTP2: true, Timeout: time.Minute},
			"proxy": {URL: proxied, Proxy: http.ProxyURL(via)},
		} {
			config.TLS = trust
			s := &site{Transport: upstream.New(config), url: config.URL.String()}
			t.Cleanup(s.CloseIdleConnections)
			status, body, err := s.send(s.request(t, "GET", "/a", nil))
			if status != http.StatusOK || body != "hello" || (err == nil) != notified {
				t.Errorf("%s, close_notify %v: status %d %q, %v", name, notified, status, body, err)
			}
		}
	}
}

// Section 9.

func TestAConnectionIsUsedAgainAfterAWholeAnswer(t *testing.T) {
	overEachWay(t, echo, func(t *testing.T, s *site) {
		for range 5 {
			if _, _, err := s.send(s.request(t, "POST", "/a", strings.NewReader("abc"))); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.connections.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		response, err := s.RoundTrip(s.request(t, "GET", "/a", nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close() // unread
		if _, _, err := s.send(s.request(t, "GET", "/a", nil)); err != nil || s.connections.Load() != 2 {
			t.Errorf("%d connections, %v", s.connections.Load(), err)
		}
	})
}

func TestARequestIsRepeatedAfterADeadConnection(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		var second atomic.Int64
		s := start(t, ways["direct"], func(n int64, conn net.Conn, from *bufio.Reader) {
			for i := 0; ; i++ {
				r, err := http.ReadRequest(from)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				if n == 1 && i == 1 {
					second.Add(1)
					return
				}
				_, _ = io.WriteString(conn, fine)
			}
		})
		for i := range 2 {
			r := s.request(t, method, "/a", nil)
			if method == "POST" {
				r = s.request(t, method, "/a", bytes.NewReader([]byte("abc")))
			}
			if _, _, err := s.send(r); (err != nil) != (i == 1 && method == "POST") {
				t.Errorf("%s %d: %v", method, i, err)
			}
		}
		if second.Load() != 1 {
			t.Errorf("the dead connection was used %d times", second.Load())
		}
	}
}
