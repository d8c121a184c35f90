package proxy

import (
	"strconv"
	"sync"
	"time"
)

// load counts the admitted requests under way, and limits them. It is safe for concurrent
// use.
type load struct {
	most int // 0 means no limit

	mu       sync.Mutex
	all      int
	ofClient map[string]int // by the client's name, which is empty for anonymous clients
}

// admit counts a client's request, or refuses it if too many are under way. A single
// client has at most half of them, so that its waiting requests do not block the others.
func (l *load) admit(client string) *refusal {
	if l.most == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.all >= l.most:
		return overloaded("This proxy has " + strconv.Itoa(l.most) + " requests under way, as many as MAX_REQUESTS allows.")
	case l.ofClient[client] >= (l.most+1)/2:
		return overloaded("This client has " + strconv.Itoa((l.most+1)/2) + " requests under way, which is half of MAX_REQUESTS and the most that one client may have.")
	}
	if l.ofClient == nil {
		l.ofClient = make(map[string]int)
	}
	l.all++
	l.ofClient[client]++
	return nil
}

// end removes an admitted request from the count.
func (l *load) end(client string) {
	if l.most == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.ofClient[client]--; l.ofClient[client] == 0 {
		delete(l.ofClient, client)
	}
}

func overloaded(why string) *refusal {
	return newDelay("OVERLOADED", time.Second,
		why+" The request was not sent to HubSpot. Try again later, with fewer requests at once.")
}
