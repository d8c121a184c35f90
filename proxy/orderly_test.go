package proxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
)

// Without close_notify, OpenSSL logs each connection as one that was cut.
func TestTheEndOfATLSConnectionIsAnnounced(t *testing.T) {
	for name, last := range map[string]bool{"the proxy ends": false, "HubSpot's answer was the last": true} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			set := byHandTLS(t, func(conn *tls.Conn, from *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(from); err != nil {
						ended <- err
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+map[bool]string{true: "Connection: close\r\n"}[last]+"\r\n")
				}
			})
			r := startRig(t, set)
			r.call("GET", "/a", nil).want(t, 200, "1")
			if !last {
				r.proxy.Close()
			}
			if err := <-ended; err != io.EOF { // and not io.ErrUnexpectedEOF
				t.Errorf("HubSpot's end of the connection sees %v", err)
			}
		})
	}
}

// A second answer is no later request's, if it has come by then.
func TestAnAnswerThatNobodyHasAskedForIsNotTheNextOnes(t *testing.T) {
	stray := make(chan struct{})
	serve := func(conn io.Writer, from *bufio.Reader) {
		for {
			request, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(request.URL.Path), request.URL.Path)
			<-time.After(time.Millisecond) // the proxy puts the connection back
			_, _ = io.WriteString(conn, strayAnswer)
			stray <- struct{}{}
		}
	}
	plain, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) { serve(conn, from) })
	for name, set := range map[string]func(*proxy.Options){
		"http":  plain,
		"https": byHandTLS(t, func(conn *tls.Conn, from *bufio.Reader) { serve(conn, from) }),
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t, set)
			for i := range 100 {
				path := fmt.Sprintf("/request-%d", i)
				answer, err := r.exchange(r.request("GET", path, nil))
				if err == nil && string(answer.body) != path {
					err = errors.New(string(answer.body))
				}
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				<-stray
			}
		})
	}
}
