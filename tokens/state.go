package tokens

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/store"
)

const (
	// requestTimeout is the longest time that a request waits for a credential.
	requestTimeout = 10 * time.Second

	// flightTime is the longest time that a flight waits for Redis and for another
	// replica's renewal. It does not limit a call of the token endpoint.
	flightTime = 30 * time.Second

	// maxPortals is the number of portals that are cached. Each takes 2 to 3 KB. A
	// portal that was displaced is read from Redis again.
	maxPortals = 50_000

	// unknownTime is the time for which an unknown portal is not read from Redis
	// again. maxUnknown is the number of unknown portals that are remembered.
	unknownTime = 5 * time.Second
	maxUnknown  = 10_000
)

// Options are the options of a [Source].
type Options struct {
	// Redis is the client for the records. The source does not close it.
	Redis redis.UniversalClient

	// Prefix begins the name of every key and channel in Redis.
	Prefix string

	// Keys seal the secrets in Redis. The zero value means that secrets are stored
	// without sealing.
	Keys seal.Ring

	// App renews OAuth tokens. nil means that they cannot be renewed.
	App *hubspot.App

	// RefreshAhead is how long before its expiry a token is renewed. The maximum is a
	// quarter of the token's life. 0 means that a token is renewed only after its expiry.
	RefreshAhead time.Duration

	// Settle is the time after the start for which HubSpot's refusal of a grant is not stored.
	// Redis may have failed just before the start, and another replica may be about to store a
	// newer refresh token. Requests for the portal wait. 0 means that nothing waits.
	Settle time.Duration

	// Local is a credential that has no record in Redis. nil means that there is none.
	Local *Credential

	// Rejected is called when HubSpot has rejected a static credential of the portal,
	// before the source checks whether there is another: at most once a second for each
	// portal. nil means that nothing is called.
	Rejected func(ctx context.Context, portal string)

	// GrantChanged is called when this process has stored that a portal's grant has
	// ended, or that the portal works again. It must return at once. nil means that
	// nothing is called.
	GrantChanged func(GrantChange)

	// Log is the logger. nil means that nothing is logged.
	Log *zap.Logger

	// Metrics is the registry of the source's metrics. nil means that the metrics are
	// not registered.
	Metrics prometheus.Registerer

	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// A Source provides the portals' credentials. [NewSource] returns one; the zero value is not
// usable. A Source is safe for concurrent use.
type Source struct {
	options   Options
	now       func() time.Time
	log       *zap.Logger // logs every entry
	throttled *zap.Logger // for errors that can concern many portals at once; see package throttle
	metrics   *metrics
	store     *store.Store
	settled   time.Time // the end of Options.Settle

	portals *otter.Cache[string, *entry]
	unknown *otter.Cache[string, time.Time] // unknown portals, and when to read them again
	flights singleflight.Group              // one flight at a time for each portal
	app     pause                           // no renewals, because HubSpot throttles or refuses the app
	pending pending

	directory *directory

	local     atomic.Pointer[Credential] // Options.Local, or the credential that SetLocal has set
	localRead atomic.Int64               // when Options.Rejected was last called for local, in ns since 1970

	// provisional has the credentials that are used until Redis has answered. nil means
	// that Redis has answered, or that Provide was not called.
	provisional atomic.Pointer[map[string]*Credential]

	service context.Context // ends when the source is closed; the context of work in the background
	end     context.CancelFunc

	mu     sync.Mutex     // guards closed, so that no work begins after Close waits for work
	closed bool           // set by Close
	work   sync.WaitGroup // reads, renewals and writes, for which Close waits
	loops  sync.WaitGroup // goroutines that run until end is called
}

// begin adds to s.work and returns true, or returns false if the source is closed. After true, the
// caller must call s.work.Done.
func (s *Source) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Add(1)
	}
	return !s.closed
}

// flight calls do for the portal. If a flight for the portal is already under way, flight joins it
// instead. do gets the service's context with a timeout, so that a client that disconnects does
// not cancel do.
func (s *Source) flight(portal string, do func(context.Context) (*Credential, error)) <-chan singleflight.Result {
	return s.flights.DoChan(portal, func() (any, error) {
		if !s.begin() {
			return nil, unavailable(portal, 0, errClosed)
		}
		defer s.work.Done()
		ctx, cancel := context.WithTimeout(s.service, flightTime)
		defer cancel()
		return do(ctx)
	})
}

// entry returns the portal's entry. If there is none, entry adds an empty one to the cache.
func (s *Source) entry(id string) *entry {
	if e, known := s.portals.GetIfPresent(id); known {
		return e
	}
	e := s.pending.entry(id)
	if e == nil {
		e = &entry{id: id}
	}
	e, _ = s.portals.SetIfAbsent(id, e)
	return e
}

// countPortals returns the number of held records for which is returns true.
func (s *Source) countPortals(is func(*held) bool) float64 {
	n := 0.0
	for e := range s.portals.Values() {
		if h := e.current.Load(); h != nil && is(h) {
			n++
		}
	}
	return n
}

// wait starts a flight for the portal, or joins the one under way. It waits until the flight or ctx
// ends, or until requestTimeout has passed. The flight then continues without the request.
func (s *Source) wait(ctx context.Context, portal string, do func(context.Context) (*Credential, error)) (*Credential, error) {
	select {
	case result := <-s.flight(portal, do):
		credential, _ := result.Val.(*Credential)
		return credential, result.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(requestTimeout):
		return nil, unavailable(portal, 0, context.DeadlineExceeded)
	}
}

// waitTwice waits for a flight of do. If waitTwice has joined a flight of Renew or a renewal ahead of
// time, that flight may end without a credential although do can provide one. The credential may also
// expire when the flight ends. In these cases waitTwice waits for one more flight.
func (s *Source) waitTwice(ctx context.Context, portal string, do func(context.Context) (*Credential, error)) (*Credential, error) {
	for range 2 {
		credential, err := s.wait(ctx, portal, do)
		if err != ErrNoOther && err != errPostponed && err != errExpired {
			return credential, err
		}
	}
	return nil, unavailable(portal, 0, errExpired)
}

// record returns the record of the portal that the process holds, or nil if it holds none.
func (s *Source) record(portal string) *store.Record {
	e, known := s.portals.GetIfPresent(portal)
	if !known {
		return nil
	}
	return e.record()
}

// postpone begins a pause of the portal because of err, and returns the error for the portal's
// requests during the pause.
func (s *Source) postpone(e *entry, retryAfter time.Duration, err error) error {
	return e.pause.extend(e.id, s.now(), retryAfter, err)
}

// paused returns an error during a pause of the portal or of all portals, and otherwise nil.
func (s *Source) paused(e *entry) error {
	now := s.now()
	if err := s.app.check(e.id, now); err != nil {
		return err
	}
	return e.pause.check(e.id, now)
}

// AppChanged ends a pause of all portals, because the client secret has changed.
func (s *Source) AppChanged() { s.app.end() }
