// Package activity keeps what a process has seen of its calls: how many have ended in each
// minute of the last hour, how many of them each client has sent, and the last limits and
// errors that HubSpot has sent for each portal. The pages of the admin listener and a metric
// show that.
//
// All of it is in memory and bounded. It has no credentials: methods and paths are kept as the
// access log has them.
package activity

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// A Log keeps the activity of a process. It is safe for concurrent use. [New] returns one.
type Log struct {
	now     func() time.Time
	clients atomic.Pointer[map[string]*hour] // by the client's name; a map is never changed
	errors  hour                             // see Minute.Errors
	limits  *otter.Cache[string, *limitSeen] // by portal
	failing *otter.Cache[string, *failures]  // by portal
}

// New returns a log that has seen nothing. A nil clock means time.Now.
func New(now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	l := &Log{
		now:     now,
		limits:  otter.Must(&otter.Options[string, *limitSeen]{MaximumSize: mostLimits}),
		failing: otter.Must(&otter.Options[string, *failures]{MaximumSize: mostFailing}),
	}
	l.clients.Store(&map[string]*hour{})
	return l
}

// A Call is a call that has ended.
type Call struct {
	Client       string // empty: anonymous
	Portal       string // empty: the call was for no portal
	Method, Path string // as the client sent them
	Status       int    // what the client received
	Left         bool   // the client left before the answer's end
	Refused      bool   // the proxy itself answered, with an error

	Answer      http.Header // the header of HubSpot's answer; nil means that HubSpot did not answer
	Category    string      // the category of HubSpot's error; empty if there is none
	Correlation string      // HubSpot's id of the answer
}

// Add adds a call. Add takes no lock and allocates nothing, except for HubSpot's errors, for the
// first call of a client, and at most once in limitEvery for a portal's limit.
func (l *Log) Add(c Call) {
	now := l.now()
	l.count(&c, minuteOf(now))
	if c.Answer == nil || c.Portal == "" {
		return
	}
	l.seeLimit(&c, now)
	if c.Status >= http.StatusBadRequest && c.Status != http.StatusNotFound && !c.Left {
		l.seeFailure(&c, now)
	}
}
