package upstream

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pooled is an idle connection whose other end, HubSpot's, is a pipe.
type pooled struct {
	*conn
	gone   atomic.Bool  // HubSpot has closed the connection
	closed atomic.Bool  // the pool has closed the connection
	polls  atomic.Int64 // non-blocking reads
}

func newPooled() *pooled {
	ours, theirs := net.Pipe()
	raw := newRawConn(ours, false)
	p := &pooled{conn: newConn(raw, raw)}
	raw.poll = func([]byte) (int, error) {
		if p.polls.Add(1); p.gone.Load() {
			return 0, io.EOF
		}
		return 0, errWouldBlock
	}
	go func() {
		_, _ = io.Copy(io.Discard, theirs)
		_ = theirs.Close()
		p.closed.Store(true)
	}()
	return p
}

func TestConnectionsThatNobodyUsesAreClosedAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i pool
		first, second, third, fourth := newPooled(), newPooled(), newPooled(), newPooled()
		i.put(first.conn)
		time.Sleep(idleTimeout / 2)
		i.put(second.conn)
		time.Sleep(idleTimeout/2 - time.Second)
		if first.closed.Load() {
			t.Error("the first one was closed early")
		}
		time.Sleep(time.Second + pollInterval)
		if !first.closed.Load() || second.closed.Load() {
			t.Errorf("closed: the first one %v, the second one %v", first.closed.Load(), second.closed.Load())
		}
		time.Sleep(idleTimeout)
		if !second.closed.Load() {
			t.Error("the second one is still open")
		}
		i.put(third.conn)
		i.close()
		i.put(fourth.conn)
		synctest.Wait()
		if !third.closed.Load() || !fourth.closed.Load() {
			t.Error("a connection stays open after close")
		}
		time.Sleep(2 * idleTimeout)
	})
}

func TestConnectionsThatHubSpotHasClosedAreClosedWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after := time.Duration(0); after < 2*pollInterval; after += pollInterval / 4 {
			var i pool
			stays, goes := newPooled(), newPooled()
			i.put(goes.conn)
			i.put(stays.conn)
			time.Sleep(after)
			goes.gone.Store(true)
			time.Sleep(10*time.Second - time.Millisecond)
			if !goes.closed.Load() || stays.closed.Load() {
				t.Errorf("HubSpot closed one connection after %v; the pool closed that one: %v, the other one: %v", after, goes.closed.Load(), stays.closed.Load())
			}
			i.close()
			synctest.Wait()
		}
	})
}

// If HubSpot sends surplus bytes, they arrive soon after the answer.
func TestAConnectionThatHasRestedIsPreferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i pool
		var all []*pooled
		for range 3 {
			all = append(all, newPooled())
			i.put(all[len(all)-1].conn)
			time.Sleep(restTime)
		}
		for _, used := range []int{2, 1, 0} { // the most recently used one first
			if c := i.take(); c != all[used].conn {
				t.Errorf("connection %d is not taken in its turn", used)
			}
		}
		for _, p := range all {
			i.put(p.conn)
		}
		for used := range 3 { // none has rested: the longest idle one first
			if c := i.take(); c != all[used].conn {
				t.Errorf("connection %d is not taken in its turn", used)
			}
		}
		for _, p := range all {
			i.put(p.conn)
			if n := p.polls.Load(); n != 2 {
				t.Errorf("polled %d times, want once for each take", n)
			}
		}
		i.close()
		synctest.Wait()
	})
}
