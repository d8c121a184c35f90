package secret_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// failure returns the error of net/http's client for a server that reads a request and then
// calls serve.
func failure(t *testing.T, timeout time.Duration, serve func(net.Conn)) error {
	t.Helper()
	address := testkit.Serve(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		serve(conn)
	})
	return get(t, &http.Client{Timeout: timeout}, "http://"+address)
}

// get returns the error of a GET, which must fail.
func get(t *testing.T, client *http.Client, address string) error {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client.Transport = transport
	response, err := client.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err = io.Copy(io.Discard, response.Body); err == nil {
		t.Fatal("no error")
	}
	return err
}

// noInner is an error that could wrap others, and wraps none.
type noInner struct{}

// Error implements error.
func (noInner) Error() string { return canary }

// Unwrap returns nothing.
func (noInner) Unwrap() []error { return nil }

func says(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

func TestCauseDescribesTheErrorWithoutThePeersText(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	broken := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"

	for name, tt := range map[string]struct {
		err  error
		want string // part of the text
	}{
		"refused":               {get(t, &http.Client{}, "http://"+closed.Addr().String()), "connection refused"},
		"timeout":               {failure(t, 50*time.Millisecond, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }), "timeout"},
		"deadline":              {fmt.Errorf("%s: %w", canary, context.DeadlineExceeded), "timeout"},
		"certificate":           {get(t, &http.Client{}, untrusted.URL), "certificate"},
		"no TLS":                {get(t, &http.Client{}, strings.Replace(plain.URL, "http", "https", 1)), "does not use TLS"},
		"record":                {fmt.Errorf("%s: %w", canary, tls.RecordHeaderError{Msg: canary}), "does not use TLS"},
		"alert":                 {fmt.Errorf("%s: %w", canary, tls.AlertError(40)), "handshake failure"},
		"EOF":                   {failure(t, time.Minute, func(net.Conn) {}), "the connection was closed"},
		"EOF in the body":       {failure(t, time.Minute, says(broken)), "the connection was closed"},
		"closed on this side":   {fmt.Errorf("%s: %w", canary, net.ErrClosed), "the connection was closed"},
		"closed when idle":      {errors.New("http: server closed idle connection"), "the connection was closed"},
		"canceled":              {fmt.Errorf("%s: %w", canary, context.Canceled), "context canceled"},
		"not HTTP":              {failure(t, time.Minute, says(canary+"\r\n\r\n")), "could not be parsed"},
		"a status of letters":   {failure(t, time.Minute, says("HTTP/1.1 "+canary+"\r\n\r\n")), "could not be parsed"},
		"a header with no :":    {failure(t, time.Minute, says("HTTP/1.1 200 OK\r\n"+canary+"\r\n\r\n")), "could not be parsed"},
		"a Content-Length":      {failure(t, time.Minute, says("HTTP/1.1 200 OK\r\nContent-Length: "+canary+"\r\n\r\n")), "could not be parsed"},
		"a Transfer-Encoding":   {failure(t, time.Minute, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: "+canary+"\r\n\r\n")), "could not be parsed"},
		"a trailer with no :":   {failure(t, time.Minute, says(broken+"0\r\n"+canary+"\r\n\r\n")), "could not be parsed"},
		"a Location":            {failure(t, time.Minute, says("HTTP/1.1 302 F\r\nLocation: http://x/%zz"+canary+"\r\nContent-Length: 0\r\n\r\n")), "could not be parsed"},
		"anything else":         {errors.New(canary), "could not be parsed"},
		"anything else, joined": {errors.Join(errors.New(canary), errors.New("x")), "could not be parsed"},
		"of another type":       {fmt.Errorf("%s: %w", canary, textproto.ProtocolError(canary)), "type textproto.ProtocolError,"},
		"another type, joined":  {errors.Join(&url.Error{Op: canary, Err: url.EscapeError(canary)}, errors.New(canary)), "type url.EscapeError,"},
		"wraps nothing":         {&url.Error{Op: canary, Err: fmt.Errorf("%s: %w", canary, errors.Join(noInner{}, errors.New(canary)))}, "type secret_test.noInner,"},
	} {
		t.Run(name, func(t *testing.T) {
			got := secret.Cause(tt.err).Error()
			if strings.Contains(got, canary) || !strings.Contains(got, tt.want) {
				t.Errorf("%v became %q, want %q", tt.err, got, tt.want)
			}
		})
	}
	if secret.Cause(nil) != nil {
		t.Error("nil has a cause")
	}
	if !errors.Is(secret.Cause(fmt.Errorf("x: %w", context.Canceled)), context.Canceled) {
		t.Error("the cause of a canceled call is not context.Canceled")
	}
}
