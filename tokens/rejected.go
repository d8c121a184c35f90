package tokens

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// rejectedAfter is how many calls in a row HubSpot answers 401 before a static
	// credential counts as rejected.
	rejectedAfter = 3

	// rejectedAgainAfter is how long after HubSpot accepted a rejected credential it
	// does not count as rejected again: some endpoints answer 401 to credentials of
	// a kind, and then the state would change with each call.
	rejectedAgainAfter = 30 * time.Second
)

// A judgement is what HubSpot's answers to calls say of a static credential. The
// process counts its own calls only, and all processes share what that results in.
type judgement struct {
	inARow   atomic.Int32 // 401s without a 2xx in between
	rejected atomic.Int64 // since when it is rejected, in ms since 1970; 0: it is not

	now     func() time.Time
	changed func() // nil: the credential has no record

	mu       sync.Mutex
	first    time.Time // when the first of those in a row came
	accepted time.Time // when it was no longer rejected
}

// since returns since when HubSpot rejects the credential; zero: it does not.
func (j *judgement) since() time.Time {
	if ms := j.rejected.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// set takes in since when HubSpot rejects the credential, as it is stored. If it was
// accepted, by calls of another process, counting begins anew.
func (j *judgement) set(since time.Time) {
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

// answered counts a call that HubSpot has answered with that status.
func (j *judgement) answered(status int) {
	switch {
	case status == http.StatusUnauthorized && j.reject(), status/100 == 2 && j.accept():
		if j.changed != nil {
			j.changed()
		}
	}
}

// reject counts a 401, and reports whether the credential counts as rejected now,
// and did not before.
func (j *judgement) reject() bool {
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

// accept counts a 2xx, and reports whether the credential counted as rejected until
// now.
func (j *judgement) accept() bool {
	if j.inARow.Load() == 0 && j.rejected.Load() == 0 {
		return false // as nearly always
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

// judged makes what HubSpot's answers say of the portal's static credential known to
// all replicas. It does not wait for Redis.
func (s *Source) judged(portal string, l *learned) {
	e, known := s.portals.GetIfPresent(portal)
	if !known {
		return
	}
	e.mu.Lock()
	h := e.current.Load()
	since := l.judgement.since()
	if h == nil || h.credential == nil || h.credential.learned != l || h.RejectedAt.Equal(since) {
		e.mu.Unlock()
		return // another one by now
	}
	r := h.Record
	r.RejectedAt, r.NotedAt = since, notedAt(r, s.now())
	e.hold(s.held(portal, r))
	e.mu.Unlock()
	s.pending.add(e)
	if since.IsZero() {
		s.log.Info("HubSpot accepts a portal's credential again", zap.String("portal", portal))
		return
	}
	s.log.Error("HubSpot rejects a portal's credential: "+Portal{ID: portal, State: Rejected}.Remedy(),
		zap.String("portal", portal), zap.String("kind", string(r.Kind)), zap.Time("since", since))
}
