package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	overEachHub(t, 1<<20, func(t *testing.T, r *rig, _ string) {
		response, err := r.client.Do(r.request("GET", "/fake/events?n=3", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		reader := bufio.NewReader(response.Body)
		for i := 1; i <= 3; i++ {
			// The next is not sent before this one has come.
			for range 3 {
				line, err := reader.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(line, "id: ") && line != fmt.Sprintf("id: %d\n", i) {
					t.Errorf("got %q, want event %d", line, i)
				}
			}
			r.hub.NextEvent()
		}
	})
}

// An answer whose length is known is no less a stream.
func TestTheFirstBytesOfAnAnswerDoNotWaitForTheRest(t *testing.T) {
	more := make(chan struct{})
	set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-q.Context().Done():
		}
		_, _ = io.WriteString(w, "other")
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	response, err := r.client.Do(r.request("GET", "/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	first := make([]byte, 5)
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first" {
		t.Fatalf("%q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "other" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestAHeaderDoesNotWaitForItsBody(t *testing.T) {
	for name, length := range map[string]string{"length known": "5", "chunked": ""} {
		t.Run(name, func(t *testing.T) {
			more := make(chan struct{})
			set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-more:
				case <-q.Context().Done():
				}
				_, _ = io.WriteString(w, "later")
			})
			r := start(t, setup{proxy: set})
			r.connect(portalID)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for range 3 { // on the same connection
				response, err := r.client.Do(r.request("GET", "/", nil).WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				more <- struct{}{}
				if body, err := io.ReadAll(response.Body); err != nil || string(body) != "later" {
					t.Errorf("%q, %v", body, err)
				}
				_ = response.Body.Close()
			}
		})
	}
}

// net/http's server would wait for the rest of the request before it sends any
// of the answer, or take it away from the transport, but for full duplex, and
// but for the connection's ending with such an answer.
func TestAnAnswerMayBeginBeforeTheRequestEnds(t *testing.T) {
	set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		_, _ = io.WriteString(w, "first")
		_ = control.Flush()
		received, _ := io.ReadAll(q.Body)
		_, _ = io.WriteString(w, sum(received))
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	data := bytesOf(300_000, 0)
	for _, length := range []int64{int64(len(data)), -1} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		reader, writer := io.Pipe()
		defer writer.Close()
		go func() { _, _ = writer.Write(data[:1000]) }()
		request := r.request("POST", "/", reader).WithContext(ctx)
		request.ContentLength = length
		response, err := r.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		first := make([]byte, 5)
		if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first" {
			t.Fatalf("%q, %v", first, err)
		}
		_, _ = writer.Write(data[1000:])
		_ = writer.Close()
		if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != sum(data) {
			t.Errorf("length %d: %q, %v", length, rest, err)
		}
	}
}

func TestAClientThatLeavesEndsTheRequestToHubSpot(t *testing.T) {
	overEachHub(t, 1<<20, func(t *testing.T, r *rig, _ string) {
		for i, path := range []string{"/fake/hang", "/fake/events?n=9"} {
			ctx, leave := context.WithCancel(t.Context())
			before := r.hub.Requests()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = r.exchange(r.request("GET", path, nil).WithContext(ctx))
			}()
			within(t, r.hub, func() bool { return r.hub.Requests() > before })
			leave()
			<-done
			within(t, r.hub, func() bool { return r.hub.Cancelled() == i+1 })
		}
	})
}

func TestAClientThatLeavesDoesNotCancelTheRenewal(t *testing.T) {
	r := start(t, setup{})
	r.connect(portalID)
	r.hub.SetToken(hubspottest.TokenBehaviour{Latency: 200 * time.Millisecond, Rotate: true})
	ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer leave()
	if _, err := r.exchange(r.request("GET", "/", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	r.call("GET", "/", nil).want(t, 200, "1")
	if calls := r.hub.TokenCalls(portalID); calls != 1 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
}

func TestADownloadThatHubSpotBreaksOffIsSeenAsBroken(t *testing.T) {
	overEachHub(t, 1<<20, func(t *testing.T, r *rig, _ string) {
		for _, n := range []int{1, 1000, 1_000_000} {
			answer, err := r.exchange(r.request("GET", "/fake/break?bytes="+strconv.Itoa(n), nil))
			// The break may overtake the header; then the proxy says so.
			if err == nil && answer.StatusCode != http.StatusBadGateway {
				t.Errorf("%d bytes: a clean end, status %d, %d bytes", n, answer.StatusCode, len(answer.body))
			}
		}
	})
	// Chunked, so that only the missing end shows it.
	set, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	if answer, err := r.exchange(r.request("GET", "/", nil)); err == nil {
		t.Errorf("chunked: a clean end, status %d: %s", answer.StatusCode, answer.body)
	}
}

// patterned reads n bytes, byte i being i mod 251.
type patterned struct{ at, n int64 }

var patternBlock = bytesOf(251*256, 0)

func (p *patterned) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	from := patternBlock[p.at%251:]
	n := copy(b[:min(int64(len(b)), p.n-p.at)], from)
	p.at += int64(n)
	return n, nil
}

// checker counts bytes, as long as they are those of patterned.
type checker struct{ at int64 }

func (c *checker) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		want := patternBlock[c.at%251:]
		n := min(len(rest), len(want))
		if !bytes.Equal(rest[:n], want[:n]) {
			return 0, fmt.Errorf("other bytes than were sent, after %d", c.at)
		}
		c.at += int64(n)
		rest = rest[n:]
	}
	return len(b), nil
}

// A gigabyte up and a gigabyte down, through a proxy in a process of its own,
// whose memory stays small. The race detector takes several times as much
// memory and time, so that it gets less to carry, and still more than it may
// hold.
func TestBodiesStreamInConstantMemory(t *testing.T) {
	total, most := int64(1<<30), int64(64<<20)
	if raceDetector {
		total, most = 320<<20, 256<<20
	}
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	hub.Handle(serveHubPaths)
	hub.SetAccessToken(portalID, hubspottest.Canary+"-static")
	address, pid := startProcess(t, hub.URL)

	for _, chunked := range []bool{false, true} {
		request, err := http.NewRequestWithContext(t.Context(), "POST", address+"/fake/two-writes", &patterned{n: total / 2})
		if err != nil {
			t.Fatal(err)
		}
		if !chunked {
			request.ContentLength = total / 2
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(answer) != 64 {
			t.Errorf("upload, chunked %v: status %d, %v: %s", chunked, response.StatusCode, err, answer)
		}
		response, err = http.Get(fmt.Sprintf("%s/fake/download?bytes=%d&chunked=%s", address, total/2, map[bool]string{true: "1"}[chunked]))
		if err != nil {
			t.Fatal(err)
		}
		var got checker
		_, err = io.Copy(&got, response.Body)
		_ = response.Body.Close()
		if err != nil || got.at != total/2 {
			t.Errorf("download, chunked %v: %d bytes, %v", chunked, got.at, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	peak := peakMemory(t, pid)
	t.Logf("the process took %d MiB at most", peak>>20)
	if peak > most {
		t.Errorf("the process took %d MiB, want %d at most", peak>>20, most>>20)
	}
}

// startProcess starts the proxy in a process of its own, which ends with the
// test.
func startProcess(t *testing.T, hubURL string) (address string, pid int) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestProxyProcess$")
	command.Env = append(os.Environ(), "PROXY_PROCESS_HUB="+hubURL)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe() // at its end the process ends, whatever becomes of the test
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(line), command.Process.Pid
}

// TestProxyProcess is no test, but the process that startProcess starts.
func TestProxyProcess(t *testing.T) {
	hub := os.Getenv("PROXY_PROCESS_HUB")
	if hub == "" {
		t.Skip("runs as a process of TestBodiesStreamInConstantMemory")
	}
	address, err := url.Parse(hub)
	if err != nil {
		t.Fatal(err)
	}
	client, end := store.Embedded()
	defer end()
	source := tokens.NewSource(tokens.Options{
		Redis: client,
		Local: tokens.Static(portalID, tokens.AccessToken, secret.New(hubspottest.Canary+"-static")),
	})
	defer source.Close(t.Context())
	p := proxy.New(proxy.Options{
		Credentials: source, Upstream: address, DefaultPortal: portalID, AllowAnonymous: true,
		RetryBodyLimit: 1 << 20, RetryMemory: 32 << 20,
	})
	defer p.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := p.Server()
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	fmt.Println(listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// peakMemory returns how much memory the process has taken at most.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
