package activity

import (
	"slices"
	"strings"
	"sync"
	"time"

	"hubspot-auth-proxy/proxy/wire"
)

const (
	// mostFailing is how many portals' failures are kept, and mostFailures how many failures
	// of each portal: about 5 MB at most.
	mostFailing  = 1_000
	mostFailures = 10

	// maxPath and maxCorrelation are how much is kept of a path and of a correlation id, in
	// bytes.
	maxPath        = 200
	maxCorrelation = 64
)

// A Failure is a call that HubSpot has answered with an error.
type Failure struct {
	At           time.Time
	Client       string // empty: anonymous
	Method, Path string // as the access log has them
	Status       int
	Category     string // HubSpot's category; empty if the answer has none
	Correlation  string // HubSpot's id of the answer
}

type failures struct {
	mu   sync.Mutex
	last []Failure // the newest is the last
}

// seeFailure keeps the call as the newest failure of its portal.
func (l *Log) seeFailure(c *Call, now time.Time) {
	known, has := l.failing.GetIfPresent(c.Portal)
	if !has {
		known, _ = l.failing.SetIfAbsent(strings.Clone(c.Portal), new(failures))
	}
	f := Failure{
		At: now, Client: c.Client, Method: strings.Clone(wire.LoggedMethod(c.Method)), Path: kept(wire.LoggedPath(c.Path), maxPath),
		Status: c.Status, Category: c.Category, Correlation: kept(wire.Printable(c.Correlation), maxCorrelation),
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	if len(known.last) == mostFailures {
		known.last = slices.Delete(known.last, 0, 1)
	}
	known.last = append(known.last, f)
}

// kept returns the text's first bytes. It does not share memory with the text, because that may
// be a part of a long request.
func kept(text string, most int) string { return strings.Clone(text[:min(len(text), most)]) }

// Failures returns the last calls of the portal that HubSpot has answered with an error, the
// newest first. Calls that HubSpot has answered with 404 are left out.
func (l *Log) Failures(portal string) []Failure {
	known, has := l.failing.GetEntryQuietly(portal)
	if !has {
		return nil
	}
	known.Value.mu.Lock()
	defer known.Value.mu.Unlock()
	all := slices.Clone(known.Value.last)
	slices.Reverse(all)
	return all
}
