package tokens

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// rejectedAfter is the number of successive 401s after which a static credential
	// counts as rejected.
	rejectedAfter = 3

	// rejectedAgainAfter is the time for which a credential that HubSpot has accepted
	// again does not count as rejected. Some endpoints answer 401 to all credentials of
	// one kind; without this time, the state would change with each call.
	rejectedAgainAfter = 30 * time.Second
)

// A rejection records whether HubSpot rejects a static credential. A process counts only its own
// calls; all processes share the resulting state.
type rejection struct {
	inARow   atomic.Int32 // 401s without a 2xx in between
	rejected atomic.Int64 // since when HubSpot rejects the credential, in ms since 1970; 0 means not rejected

	now     func() time.Time
	changed func() // called when the state has changed; nil if the credential has no record

	mu       sync.Mutex
	first    time.Time // the first of the successive 401s
	accepted time.Time // when HubSpot accepted the credential again
}

// since returns the time since which HubSpot rejects the credential, or the zero time if HubSpot
// accepts it.
func (j *rejection) since() time.Time {
	if ms := j.rejected.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// set sets the state as it is stored in the record. If another process has found that HubSpot
// accepts the credential again, counting starts again.
func (j *rejection) set(since time.Time) {
	if !since.IsZero() {
		j.rejected.Store(since.UnixMilli())
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rejected.Swap(0) != 0 {
		j.inARow.Store(0)
		j.accepted = j.now()
	}
}

// answered counts a call that HubSpot has answered with the status.
func (j *rejection) answered(status int) {
	switch {
	case status == http.StatusUnauthorized && j.reject(), status/100 == 2 && j.accept():
		if j.changed != nil {
			j.changed()
		}
	}
}

// reject counts a 401. It returns true if the credential counts as rejected from now on.
func (j *rejection) reject() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	n := j.inARow.Add(1)
	if n == 1 {
		j.first = now
	}
	if n < rejectedAfter || j.rejected.Load() != 0 || now.Sub(j.accepted) < rejectedAgainAfter {
		return false
	}
	j.rejected.Store(j.first.UnixMilli())
	return true
}

// accept counts a 2xx. It returns true if the credential counted as rejected until now.
func (j *rejection) accept() bool {
	if j.inARow.Load() == 0 && j.rejected.Load() == 0 {
		return false // the usual case needs no lock
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inARow.Store(0)
	if j.rejected.Swap(0) == 0 {
		return false
	}
	j.accepted = j.now()
	return true
}
