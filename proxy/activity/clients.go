package activity

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// mostClients is how many clients have a count of their own. OtherClients is the name under
// which the calls of all further clients are counted.
const (
	mostClients  = 200
	OtherClients = "other clients"
)

// A ClientCalls is how many calls of a client ended in the last hour.
type ClientCalls struct {
	Client string // empty: anonymous ones
	Calls  int64
}

// count counts the call for its client and, if it is one, as an error.
func (l *Log) count(c *Call, minute uint64) {
	l.hourOf(c.Client).add(minute)
	if c.isError() {
		l.errors.add(minute)
	}
}

// hourOf returns where the client's calls are counted.
func (l *Log) hourOf(client string) *hour {
	for {
		known := l.clients.Load()
		if h, has := (*known)[client]; has {
			return h
		}
		if len(*known) >= mostClients && client != OtherClients {
			client = OtherClients
			continue
		}
		next := maps.Clone(*known)
		h := new(hour)
		next[client] = h
		if l.clients.CompareAndSwap(known, &next) {
			return h
		}
	}
}

// Clients returns the clients with calls in the last hour. The client with the most calls comes
// first.
func (l *Log) Clients() []ClientCalls {
	minute := minuteOf(l.now())
	var all []ClientCalls
	for name, calls := range *l.clients.Load() {
		if n := calls.sum(minute); n > 0 {
			all = append(all, ClientCalls{name, n})
		}
	}
	slices.SortFunc(all, func(x, y ClientCalls) int {
		return cmp.Or(cmp.Compare(y.Calls, x.Calls), strings.Compare(x.Client, y.Client))
	})
	return all
}
