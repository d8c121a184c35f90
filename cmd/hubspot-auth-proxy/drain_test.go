package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// refuses reports whether connections to the address are refused.
func refuses(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// ask sends a GET on an open connection, and reads the whole answer.
func ask(conn net.Conn, path string) (*http.Response, error) {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil)
	if err == nil && response.StatusCode < 200 {
		response, err = http.ReadResponse(r, nil)
	}
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response, err
}

func TestWhileStoppingEachAnswerIsItsConnectionsLast(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)
	p := launch(t, "serve", append(oauth(hub), "ADMIN_ADDR="+admin, "SHUTDOWN_DELAY=1m")...)
	address := p.address()
	paths := map[string]int{
		"/crm/v3/objects/contacts": 200, // HubSpot's
		"/fake/hints":              200, // after a 103
		"/portals/x/":              400, // the proxy's
	}
	conns := make(map[string]net.Conn)
	for path, status := range paths {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[path] = conn
		for range 2 {
			if a, err := ask(conn, path); err != nil || a.StatusCode != status || a.Close {
				t.Fatalf("serving %s: %v, %+v", path, err, a)
			}
		}
	}
	p.terminate()
	testkit.Eventually(t, "it is not ready", func() bool { status, _ := get(t, "http://"+admin+"/readyz"); return status == 503 })
	for path, status := range paths {
		a, err := ask(conns[path], path)
		if err != nil || a.StatusCode != status || !a.Close {
			t.Errorf("stopping %s: %v, %+v", path, err, a)
		}
		if n, err := conns[path].Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("stopping %s: the connection goes on with %d bytes, %v", path, n, err)
		}
	}
	// New connections are still served.
	if status, _ := get(t, "http://"+address+"/crm/v3/objects/contacts"); status != 200 {
		t.Errorf("a new connection: status %d", status)
	}
}

func TestSIGTERMFinishesALongDownload(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)
	p := launch(t, "serve", append(oauth(hub), "ADMIN_ADDR="+admin)...)
	address := p.address()
	const size = 64 << 20 // much more than the buffers of sockets
	response, err := http.Get(fmt.Sprintf("http://%s/fake/download?bytes=%d", address, size))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ContentLength != size {
		t.Fatalf("Content-Length %d", response.ContentLength)
	}
	body := &sequence{}
	if _, err := io.CopyN(body, response.Body, 100_000); err != nil {
		t.Fatal(err)
	}
	p.terminate()
	testkit.Eventually(t, "no more connections are taken", func() bool { return refuses(address) })
	// The admin listener still answers.
	if status, text := get(t, "http://"+admin+"/readyz"); status != 503 || !strings.Contains(text, `"stopping"`) {
		t.Errorf("readyz: %d %s", status, text)
	}
	if status, text := get(t, "http://"+admin+"/metrics"); status != 200 || !strings.Contains(text, "\nhubspot_auth_proxy_requests_in_flight 1\n") {
		t.Errorf("metrics: %d %s", status, text)
	}
	if _, err := io.Copy(body, response.Body); err != nil || body.n != size || body.wrong != 0 {
		t.Errorf("%d of %d bytes, %d of them wrong, %v", body.n, size, body.wrong, err)
	}
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, p.stderr.String())
	}
}

// A sequence counts the bytes that are written to it, and those that differ from the bytes of
// /fake/download.
type sequence struct{ n, wrong int }

func (s *sequence) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != byte(s.n%251) {
			s.wrong++
		}
		s.n++
	}
	return len(p), nil
}

func TestRequestsLongerThanSHUTDOWN_TIMEOUTAreBrokenOffAndLogged(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", append(oauth(hub), "SHUTDOWN_TIMEOUT=300ms")...)
	address := p.address()
	idle, err := net.Dial("tcp", address) // a connection without a request does not count
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	response, err := http.Get("http://" + address + "/fake/events?n=2")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	p.terminate()
	if rest, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("it ended with %q, %v, as if that were all", rest, err)
	}
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	log := p.stderr.String()
	for _, want := range []string{
		`"SHUTDOWN_TIMEOUT is over; the requests that are still under way are broken off","requests":1}`,
		`"msg":"request",.*"path":"/fake/events","status":499,.*"complete":false,`,
		`"msg":"stopped"}\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(log) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

func TestAConnectionWithoutARequestIsNotLogged(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", append(oauth(hub), "SHUTDOWN_TIMEOUT=100ms")...)
	conn, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if status, _ := get(t, "http://"+p.address()+"/a"); status != 200 { // so the silent connection has been accepted too
		t.Fatal(status)
	}
	p.terminate()
	if status := p.exit(); status != 0 || strings.Contains(p.stderr.String(), "broken off") {
		t.Errorf("exit status %d\n%s", status, p.stderr.String())
	}
}

func TestWhenAServerFailsTheProgramShutsDownInOrder(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*service){
		"the proxy's": func(s *service) { _ = s.listener.Close() },
		"the admin's": func(s *service) { s.failed <- errors.New("accept: too many open files") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubspottest.NewServer()
			defer hub.Close()
			settings, err := config.Load(append(oauth(hub), "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			var printed testkit.Output
			log, flush := newLogger(settings, &printed)
			s, err := start(t.Context(), settings, nil, log)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.Get("http://" + s.listener.Addr().String() + "/fake/events?n=2")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			ended := make(chan error, 1)
			go func() { ended <- s.run(t.Context()) }()
			fail(s)
			testkit.Eventually(t, "no more connections are taken", func() bool { return refuses(s.listener.Addr().String()) })
			hub.NextEvent()
			if rest, err := io.ReadAll(response.Body); err != nil || strings.Count(string(rest), "data:") != 2 {
				t.Errorf("what was under way ended with %q, %v", rest, err)
			}
			if err := <-ended; err == nil {
				t.Error("it ends as if nothing had failed")
			}
			flush()
			if !strings.HasSuffix(printed.String(), "\"msg\":\"stopped\"}\n") || strings.Contains(printed.String(), "broken off") {
				t.Errorf("the log:\n%s", &printed)
			}
		})
	}
}
