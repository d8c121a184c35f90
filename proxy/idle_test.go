package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// Ten thousand clients that have been answered and stay connected, at a proxy
// in a process of its own.
func TestManyIdleConnectionsCostLittleAndKeepNobodyOut(t *testing.T) {
	n, most := volume(10_000, 1000), int64(volume(40<<10, 400<<10))
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if free := int(min(limit.Cur, 1<<20)) - 1000; free < n {
		t.Logf("no more than %d descriptors are allowed here", limit.Cur)
		n = max(free, 100)
	}
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	hub.SetAccessToken(portalID, hubspottest.Canary+"-static")
	address, pid := startProcess(t, hub.URL)
	address = strings.TrimPrefix(address, "http://")

	conns := make([]net.Conn, n+100)
	t.Cleanup(func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close()
			}
		}
	})
	open := func(from, to int) {
		var next atomic.Int64
		together(t, to-from, 16, func(int) error {
			i := from + int(next.Add(1)) - 1
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			conns[i] = conn
			return askedOn(conn)
		})
	}
	open(0, 100) // warms it up
	before := memoryOf(t, pid)
	open(100, n+100)
	each := (memoryOf(t, pid) - before) / int64(n)
	t.Logf("%d idle connections take %d bytes each", n, each)
	if each > most {
		t.Errorf("an idle connection takes %d bytes, want %d at most", each, most)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := askedOn(conn); err != nil {
		t.Errorf("beside them: %v", err)
	}
	for _, i := range []int{0, n / 2, n + 99} {
		if err := askedOn(conns[i]); err != nil {
			t.Errorf("idle connection %d: %v", i, err)
		}
	}
}

// askedOn makes a request on the connection, which stays open.
func askedOn(conn net.Conn) error {
	from := reading(conn)
	if _, err := io.WriteString(conn, head()); err != nil {
		return err
	}
	response, err := http.ReadResponse(from, nil)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK || response.Close {
		return fmt.Errorf("status %d, closed: %v", response.StatusCode, response.Close)
	}
	return nil
}

// memoryOf returns how much memory the process takes.
func memoryOf(t *testing.T, pid int) int64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
