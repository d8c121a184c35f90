package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// peakMemory returns the highest memory use of the process so far, in MiB.
func (p *process) peakMemory() float64 {
	p.t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.Process.Pid) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if peak == nil {
		p.t.Fatalf("no VmHWM in %s", text)
	}
	kib, _ := strconv.ParseFloat(string(peak[1]), 64)
	return kib / 1024
}

func TestUnfinishedRequestsTakeNeitherMemoryNorTheAdminListener(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken)
	p.address()
	admin := p.until(`"the proxy is ready".*?"admin":"([^"]+)"`)[1]
	before := p.peakMemory()
	header := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + strings.Repeat("x", 1<<20)
	var flood sync.WaitGroup
	for range 150 {
		conn, err := net.Dial("tcp", admin)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		flood.Go(func() {
			_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
			_, _ = io.WriteString(conn, header)
		})
	}
	probe := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	for range 20 {
		response, err := probe.Get("http://" + admin + "/healthz")
		if err != nil {
			t.Errorf("a probe failed: %v", err)
			break
		}
		_ = response.Body.Close()
	}
	flood.Wait()
	grown := p.peakMemory() - before
	t.Logf("150 unfinished headers of 1 MB took %.1f MiB", grown)
	if grown > 64 { // with the race detector it is 26
		t.Errorf("they took %.1f MiB", grown)
	}
}

func TestTheAdminListenerWaitsFiveSecondsForAHeaderOf16KiB(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken)
	p.address()
	admin := p.until(`"the proxy is ready".*?"admin":"([^"]+)"`)[1]
	conn, err := net.Dial("tcp", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	_ = conn.SetDeadline(began.Add(20 * time.Second))
	_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
	for bytes, want := range map[int]int{14 << 10: http.StatusOK, 17 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Filler", strings.Repeat("x", bytes))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a header of %d bytes: %d", bytes, response.StatusCode)
		}
	}
	_, _ = io.Copy(io.Discard, conn)
	if elapsed := time.Since(began); elapsed < 4*time.Second || elapsed > 8*time.Second {
		t.Errorf("an unfinished header was waited for for %v", elapsed)
	}
}

// A probe that exceeds its timeout would let the kubelet restart the process.
func TestRequestsWithoutTheirBodiesDoNotDelayProbes(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken)
	p.address()
	admin := p.until(`"the proxy is ready".*?"admin":"([^"]+)"`)[1]
	for name, request := range map[string]string{
		"a body that does not come":         "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
		"a chunked body that does not come": "GET /callback HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a body that waits to be asked for": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			flood := func() {
				conn, err := net.Dial("tcp", admin)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				_, _ = io.WriteString(conn, request)
			}
			for range 70 {
				flood()
			}
			probe := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
			for began := time.Now(); time.Since(began) < time.Second; {
				flood() // replaces the connection that was closed for the previous probe
				response, err := probe.Get("http://" + admin + "/healthz")
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
			}
		})
	}
}
