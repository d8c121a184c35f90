package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/testkit"
)

// strict is an upstream that reads requests to the letter of RFC 9112, with
// code of its own, and takes all that servers may read in different ways for a
// fault.
type strict struct {
	url      *url.URL
	mu       sync.Mutex
	requests int
	faults   []string
}

func startStrict(t testing.TB) *strict {
	t.Helper()
	s := new(strict)
	s.url = &url.URL{Scheme: "http", Host: testkit.Serve(t, s.serve)}
	return s
}

func (s *strict) serve(conn net.Conn) {
	from := bufio.NewReader(conn)
	for {
		head, err := s.read(from)
		s.mu.Lock()
		if head != "" {
			s.requests++
		}
		if fault := (*faultError)(nil); errors.As(err, &fault) {
			s.faults = append(s.faults, fmt.Sprintf("%s in %q", fault.what, head))
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	}
}

type faultError struct{ what string }

func (e *faultError) Error() string { return e.what }

func fault(format string, values ...any) error {
	return &faultError{fmt.Sprintf(format, values...)}
}

var (
	requestLine = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+ (?:\\*|(?:/|http://)[\x21-\x7e\\x{80}-\\x{10ffff}\ufffd]*) HTTP/1\\.1$")
	headerLine  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): [^\\x00-\\x08\\x0a-\\x1f\\x7f]*$")
	chunkLine   = regexp.MustCompile("^[0-9a-f]{1,8}$")
)

// line reads a line, which ends with CR LF and has neither inside.
func (s *strict) line(from *bufio.Reader) (string, error) {
	text, err := from.ReadString('\n')
	if err != nil {
		return "", err // the proxy has left, which it may
	}
	text, ended := strings.CutSuffix(text, "\r\n")
	if !ended || strings.Contains(text, "\r") {
		return "", fault("a line that ends as %q", text)
	}
	return text, nil
}

// fields reads header lines, or trailers, to their end.
func (s *strict) fields(from *bufio.Reader) (text string, values map[string][]string, err error) {
	values = map[string][]string{}
	for {
		line, err := s.line(from)
		if err != nil || line == "" {
			return text, values, err
		}
		text += "\n" + line
		found := headerLine.FindStringSubmatch(line)
		if found == nil {
			return text, values, fault("the line %q", line)
		}
		name := strings.ToLower(found[1])
		values[name] = append(values[name], line[len(found[1])+2:])
	}
}

// read reads a request, and returns its head.
func (s *strict) read(from *bufio.Reader) (head string, err error) {
	first, err := s.line(from)
	if err != nil {
		return "", err
	}
	if !requestLine.MatchString(first) {
		return first, fault("the request line")
	}
	fields, header, err := s.fields(from)
	head = first + fields
	coding, length := header["transfer-encoding"], header["content-length"]
	switch {
	case err != nil:
		return head, err
	case len(header["host"]) != 1 || header["host"][0] != s.url.Host:
		return head, fault("Host %q", header["host"])
	case len(header["authorization"]) != 1 || header["authorization"][0] != "Bearer "+staticToken:
		return head, fault("Authorization %q", header["authorization"])
	case len(coding)+len(length) > 1 || len(coding) == 1 && coding[0] != "chunked":
		return head, fault("the framing")
	case len(header["x-hubspot-portal-id"])+len(header["proxy-authorization"])+len(header["upgrade"]) > 0:
		return head, fault("what is not HubSpot's")
	case len(length) == 1:
		n, err := strconv.ParseUint(length[0], 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != length[0] {
			return head, fault("the length")
		}
		_, err = io.CopyN(io.Discard, from, int64(n))
		return head, err
	case len(coding) == 1:
		return head, s.chunks(from)
	}
	return head, nil
}

// chunks reads a chunked body with its trailers.
func (s *strict) chunks(from *bufio.Reader) error {
	for {
		line, err := s.line(from)
		if err != nil {
			return err
		}
		if !chunkLine.MatchString(line) {
			return fault("the chunk size %q", line)
		}
		size, _ := strconv.ParseInt(line, 16, 64)
		if size == 0 {
			_, trailer, err := s.fields(from)
			for _, name := range []string{"authorization", "proxy-authorization", "content-length", "transfer-encoding", "host", "x-hubspot-portal-id"} {
				if trailer[name] != nil {
					return fault("the trailer %s", name)
				}
			}
			return err
		}
		if _, err := io.CopyN(io.Discard, from, size); err != nil {
			return err
		}
		if end, err := s.line(from); err != nil {
			return err
		} else if end != "" {
			return fault("%q after a chunk", end)
		}
	}
}

// FuzzWrittenRequest: whatever a client sends, HubSpot gets requests that can
// be read in one way only, each with the portal's credential and no other.
func FuzzWrittenRequest(f *testing.F) {
	for _, seed := range [][2]string{
		{"GET /a", "X-A: b"},
		{"GET /a?%0d%0aX-B:%20c", "X-A: %0d%0aX-B: c"},
		{"POST /a", "Content-Length: 3\r\n\r\nabc"},
		{"POST /a", "Transfer-Encoding: chunked\r\nTrailer: X-B\r\n\r\n3;a\r\nabc\r\n0\r\nX-B: c\r\nAuthorization: Bearer a\r\nContent-Length: 1\r\n"},
		{"POST /a", "Transfer-Encoding: chunked\r\n\r\n0\r\nX B: c\r\n"},
		{"POST /a", "Transfer-Encoding: chunked\r\n\r\n0\r\nX-B: c\rd\x00\r\n"},
		{"POST /a", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: localhost"},
		{"GET //a|b\xff", "X-A: b\n Authorization: Bearer a\nConnection: Authorization, Host\rX-B: c"},
		{"get\x0b /a", "X-A: \u2028b\u560d\u560aX-B: c"},
		{"M-SEARCH http://elsewhere/a b", "Host: elsewhere\r\nX-\u0130: \x85b\r\nX_A: b"},
		{"PUT /a", "Expect: 100-continue\r\nContent-Length: 1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\na"},
		{"POST /a?hapikey=x%0d%0a", "X-HubSpot-Portal-Id: 62516\r\n X-B: c\r\nContent-Length:\t0"},
	} {
		f.Add(seed[0], seed[1])
	}
	upstream := startStrict(f)
	r := start(f, setup{proxy: func(o *proxy.Options) { o.Upstream, o.DefaultPortal, o.Loopback = upstream.url, staticPortal, false }})
	r.seed(staticPortal, tokens.AccessToken, staticToken)
	if r.call("POST", "/a", strings.NewReader("b")); upstream.requests != 1 {
		f.Fatal("an ordinary request does not get through")
	}
	f.Fuzz(func(t *testing.T, request, rest string) {
		if strings.Contains(request, "oauth") || strings.Contains(rest, "oauth") {
			return // has no credential attached
		}
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, request+" HTTP/1.1\r\nHost: localhost\r\n"+rest+"\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // some wait for more
		_, _ = conn.Read(make([]byte, 4096))
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.Copy(io.Discard, conn)
		upstream.mu.Lock()
		defer upstream.mu.Unlock()
		if len(upstream.faults) > 0 {
			t.Fatalf("%s, of %q %q", upstream.faults[0], request, rest)
		}
	})
}

func TestTheStrictServerSeesWhatIsWrong(t *testing.T) {
	upstream := startStrict(t)
	good := "Host: " + upstream.url.Host + "\r\nAuthorization: Bearer " + staticToken + "\r\n"
	for request, want := range map[string]bool{
		"GET /a HTTP/1.1\r\n" + good + "\r\n":                                                            true,
		"GET /a HTTP/1.1\r\n" + good + "Content-Length: 3\r\n\r\nabc":                                    true,
		"GET /a HTTP/1.1\r\n" + good + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n": true,
		"GET /a b HTTP/1.1\r\n" + good + "\r\n":                                                          false,
		"GET /a HTTP/1.1\r\n" + good + good + "\r\n":                                                     false,
		"GET /a HTTP/1.1\r\n" + good + "X: y\n\r\n":                                                      false,
		"GET /a HTTP/1.1\r\n" + good + "X: y\rZ: y\r\n\r\n":                                              false,
		"GET /a HTTP/1.1\r\n" + good + "X : y\r\n\r\n":                                                   false,
		"GET /a HTTP/1.1\r\n" + good + "X: y\r\n z\r\n\r\n":                                              false,
		"GET /a HTTP/1.1\r\n" + good + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n":         false,
		"GET /a HTTP/1.1\r\n" + good + "Content-Length: 3\r\n\r\nabcGET":                                 true, // and breaks off
		"GET /a HTTP/1.1\r\n" + good + "Content-Length: 3\r\n\r\nabc\r\n":                                false,
		"GET /a HTTP/1.1\r\n" + good + "Transfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\n\r\n":       false,
	} {
		from, failed := bufio.NewReader(strings.NewReader(request)), false
		for err := error(nil); err == nil; {
			_, err = upstream.read(from)
			fault := (*faultError)(nil)
			failed = failed || errors.As(err, &fault)
		}
		if failed == want {
			t.Errorf("%q: faulty %v", request, failed)
		}
	}
}
