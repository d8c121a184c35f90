package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
)

// HubSpot asks for the body and sends early hints at the same moment. The client
// gets each once, whichever of the proxy's goroutines is quicker.
func TestManyInformationalAnswersAtOnceArriveOnceEach(t *testing.T) {
	for _, hints := range []int{1, 20} {
		for scheme, start := range map[string]func(testing.TB, string) func(*proxy.Options){"http": asking, "https": askingTLS} {
			for _, first := range []string{"100", "103"} {
				t.Run(fmt.Sprintf("%s, %d hints, %s first", scheme, hints, first), func(t *testing.T) {
					informational := "HTTP/1.1 100 Continue\r\n\r\n"
					if early := strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", hints); first == "100" {
						informational += early
					} else {
						informational = early + informational
					}
					set := start(t, informational)
					r := startRig(t, set)
					together(t, volume(2500, 125), 8, func(int) error { return r.expectOnce(hints) })
				})
			}
		}
	}
}

func startRig(t *testing.T, set func(*proxy.Options)) *rig {
	r := start(t, setup{proxy: func(o *proxy.Options) { set(o); o.AccessLog = false }})
	r.connect(portalID)
	return r
}

// expectOnce makes a request on a connection of its own whose body is sent when
// it is asked for.
func (r *rig) expectOnce(hints int) error {
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	from := reading(conn)
	_, _ = io.WriteString(conn, "POST /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	var asked, hinted int
	for {
		response, err := http.ReadResponse(from, nil)
		if err != nil {
			return fmt.Errorf("after %d and %d informational answers: %w", asked, hinted, err)
		}
		switch {
		case response.StatusCode == http.StatusContinue && len(response.Header) == 0:
			asked++
			_, _ = io.WriteString(conn, "body")
		case response.StatusCode == http.StatusEarlyHints && len(response.Header) == 1:
			hinted++
		default:
			body, err := io.ReadAll(response.Body)
			if response.StatusCode != http.StatusOK || string(body) != "body" || err != nil || asked != 1 || hinted != hints {
				return fmt.Errorf("status %d %v %q, %v, after %d and %d informational answers", response.StatusCode, response.Header, body, err, asked, hinted)
			}
			return nil
		}
	}
}

// asking is an upstream that sends that before it reads a body, which it
// returns.
func asking(t testing.TB, informational string) func(*proxy.Options) {
	set, _ := byHand(t.(*testing.T), func(_ int64, conn net.Conn, from *bufio.Reader) {
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		ask(conn, from, informational)
	})
	return set
}

func askingTLS(t testing.TB, informational string) func(*proxy.Options) {
	return byHandTLS(t, func(conn *tls.Conn, from *bufio.Reader) { ask(conn, from, informational) })
}

func ask(conn io.Writer, from *bufio.Reader, informational string) {
	for {
		request, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, informational)
		body, _ := io.ReadAll(request.Body)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

// HubSpot need not ask for a body: after a second it is sent, and the client
// asked for it. Early hints may come at that very moment.
func TestABodyThatHubSpotDoesNotAskForIsAskedForBesideEarlyHints(t *testing.T) {
	t.Parallel()
	const hints = 50
	set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		request, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		waited := time.Now()
		for range hints {
			<-ticker.C
			if time.Since(waited) < 960*time.Millisecond {
				ticker.Reset(960*time.Millisecond - time.Since(waited))
				<-ticker.C
				ticker.Reset(2 * time.Millisecond)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
		}
		body, _ := io.ReadAll(request.Body)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	r := startRig(t, set)
	together(t, 32, 32, func(int) error { return r.expectOnce(hints) })
}

// A server of HTTP/2 asks for the body when its handler reads it.
func TestABodyIsAskedForOnceThroughHTTP2(t *testing.T) {
	r := startRig(t, byHTTP2(t, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.Copy(rw, r.Body) }))
	together(t, volume(1000, 50), 8, func(int) error { return r.expectOnce(0) })
}
