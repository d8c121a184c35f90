package upstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/testkit"
)

// holding is a connection that can hold what is written, and send it in one piece.
type holding struct {
	net.Conn
	hold bool
	held bytes.Buffer
}

func (h *holding) Write(p []byte) (int, error) {
	if h.hold {
		return h.held.Write(p)
	}
	return h.Conn.Write(p)
}

// SetWriteDeadline does nothing: CloseWrite of tls.Conn would make later writes fail.
func (h *holding) SetWriteDeadline(time.Time) error { return nil }

func TestTLSRecordsThatArriveTogetherAreReadTogether(t *testing.T) {
	site := httptest.NewTLSServer(nil) // for its certificate
	defer site.Close()
	record := strings.Repeat("x", 300)
	for _, test := range []struct {
		name, length string
		closes       bool // close_notify comes together with the last record
		end          error
	}{
		{name: "connection stays open", length: "900", end: io.EOF},
		{name: "connection is closed", length: "900", closes: true, end: io.EOF},
		{name: "answer is cut", length: "1200", closes: true, end: io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := testkit.Serve(t, func(conn net.Conn) {
				held := &holding{Conn: conn}
				secure := tls.Server(held, site.TLS)
				if _, err := http.ReadRequest(bufio.NewReader(secure)); err != nil {
					return
				}
				held.hold = true
				for _, piece := range []string{"HTTP/1.1 200 OK\r\nContent-Length: " + test.length + "\r\n\r\n", record, record, record} {
					_, _ = io.WriteString(secure, piece)
				}
				if test.closes {
					_ = secure.CloseWrite()
				}
				_, _ = held.held.WriteTo(conn)
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.Copy(io.Discard, conn)
			})
			d := newDirect(Config{URL: &url.URL{Scheme: "https", Host: address}, TLS: &tls.Config{InsecureSkipVerify: true}})
			defer d.pool.close()
			request := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: address, Path: "/"}}
			response, err := d.roundTrip(request.WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			n, err := response.Body.Read(make([]byte, 4096))
			if err == nil {
				_, err = response.Body.Read(make([]byte, 1))
			}
			if n != 900 || err != test.end {
				t.Errorf("one Read returned %d bytes, then came %v; want 900 and %v", n, err, test.end)
			}
		})
	}
}
