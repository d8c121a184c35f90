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
	// requestTimeout is how long a request waits for a credential.
	requestTimeout = 10 * time.Second

	// flightTime is how long a flight may wait for Redis, and for another
	// replica's renewal. A call of the token endpoint is not bound by it.
	flightTime = 30 * time.Second

	// maxPortals is how many portals are cached; one takes 2 to 3 KB. Those
	// that are not among the most used ones are read from Redis again.
	maxPortals = 50_000

	// A portal that Redis does not know is not asked for again for
	// unknownTime; maxUnknown such portals are remembered.
	unknownTime = 5 * time.Second
	maxUnknown  = 10_000
)

// Options are what a [Source] works with.
type Options struct {
	// Redis has the records. The source does not close it.
	Redis redis.UniversalClient

	// Prefix is what every key and channel in Redis begins with.
	Prefix string

	// Keys seal the secrets in Redis. The zero value stores them as they are.
	Keys seal.Ring

	// App renews OAuth tokens. Nil: they cannot be renewed.
	App *hubspot.App

	// RefreshAhead is how long before its end a token is renewed, but never
	// more than a quarter of its life.
	RefreshAhead time.Duration

	// Local is a credential that Redis has not, for its portal. Nil: none.
	Local *Credential

	// Rejected is called when HubSpot has rejected a static credential of the
	// portal, before another is looked for: at most once a second for each portal.
	// Nil: nothing is called.
	Rejected func(ctx context.Context, portal string)

	// GrantChanged is called when this process has stored that a portal's grant has
	// ended, or that the portal works again. It must return at once. Nil: nothing is
	// called.
	GrantChanged func(GrantChange)

	// Log gets what operators should know. Nil: nothing is logged.
	Log *zap.Logger

	// Metrics is where the source's metrics are registered. Nil: nowhere, they
	// are counted all the same.
	Metrics prometheus.Registerer

	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// A Source hands out the portals' credentials. It is safe for concurrent use.
type Source struct {
	options Options
	now     func() time.Time
	log     *zap.Logger // of facts, each told
	trouble *zap.Logger // of what can befall many portals at once, told now and then
	metrics *metrics
	store   *store.Store

	portals *otter.Cache[string, *entry]
	unknown *otter.Cache[string, time.Time] // when to ask again
	flights singleflight.Group              // one per portal
	app     appPause
	pending pending

	directory *directory

	local     atomic.Pointer[Credential] // of Options, or as it was changed
	localRead atomic.Int64               // when Rejected was last called for it, in ns since 1970

	// provisional has the credentials that serve until Redis has answered; nil
	// means that it has, or that nobody waits for it.
	provisional atomic.Pointer[map[string]*Credential]

	life context.Context // of the work in the background
	end  context.CancelFunc

	mu      sync.Mutex // guards closing it, and work against being waited for as it begins
	closing chan struct{}
	work    sync.WaitGroup // reading, renewing, storing
	loops   sync.WaitGroup // until end
}

// begin reports whether work may begin that Close waits for; s.work.Done must
// follow it.
func (s *Source) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return false
	}
	s.work.Add(1)
	return true
}

func (s *Source) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// flight does something for the portal, unless that or another flight is under
// way, in a context of its own: a client that leaves cancels nothing.
func (s *Source) flight(portal string, do func(context.Context) (*Credential, error)) <-chan singleflight.Result {
	return s.flights.DoChan(portal, func() (any, error) {
		if !s.begin() {
			return nil, unavailable(portal, 0, errClosed)
		}
		defer s.work.Done()
		ctx, cancel := context.WithTimeout(s.life, flightTime)
		defer cancel()
		return do(ctx)
	})
}

// background does something for a portal without anybody waiting, unless busy
// says that it is being done already. It reports whether it began.
func (s *Source) background(busy *atomic.Bool, do func()) bool {
	if !busy.CompareAndSwap(false, true) {
		return false
	}
	if !s.begin() {
		busy.Store(false)
		return false
	}
	go func() {
		defer s.work.Done()
		defer busy.Store(false)
		do()
	}()
	return true
}

// entry returns what the process knows about a portal, to be filled if it is
// new.
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

// countPortals counts the cached portals that are as asked for.
func (s *Source) countPortals(is func(*held) bool) float64 {
	n := 0.0
	for e := range s.portals.Values() {
		if h := e.current.Load(); h != nil && is(h) {
			n++
		}
	}
	return n
}
