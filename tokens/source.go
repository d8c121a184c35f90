package tokens

import (
	"context"
	"errors"
	"fmt"
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
	"hubspot-auth-proxy/tokens/throttle"
)

const (
	// patience is how long a request waits for a credential.
	patience = 10 * time.Second

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

	life context.Context // of the work in the background
	end  context.CancelFunc

	mu      sync.Mutex // guards closing it, and work against being waited for as it begins
	closing chan struct{}
	work    sync.WaitGroup // reading, renewing, storing
	loops   sync.WaitGroup // until end
}

// NewSource returns a source that listens for the changes of other replicas
// until it is closed. It does not wait for Redis.
func NewSource(options Options) *Source {
	s := &Source{
		options: options,
		now:     options.Now,
		log:     options.Log,
		portals: otter.Must(&otter.Options[string, *entry]{MaximumSize: maxPortals}),
		unknown: otter.Must(&otter.Options[string, time.Time]{MaximumSize: maxUnknown}),
		closing: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.store = store.New(store.Database{Redis: options.Redis, Prefix: options.Prefix}, options.Keys, s.now)
	s.trouble = throttle.Logger(s.log, throttle.Every)
	s.metrics = newMetrics(s)
	s.pending.wake = make(chan struct{}, 1)
	s.life, s.end = context.WithCancel(context.Background())
	s.store.OnChange(s.redisChanged(time.Now()))
	s.loops.Go(func() { s.store.Hints(s.life, s.resync, s.hint) })
	s.loops.Go(s.reconcilePending)
	return s
}

// Close ends the source. Renewals under way come to their end and what could
// not be stored is tried once more, as long as ctx lasts; its error says that
// something was left undone.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed() {
		close(s.closing)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("renewals under way are broken off: %w", context.Cause(ctx))
	}
	err = errors.Join(err, s.settleLast(ctx))
	s.end()
	s.loops.Wait()
	<-done
	_ = s.trouble.Sync() // a terminal cannot be synced
	return err
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

// Credential returns the portal's credential: from the cache, else from Redis,
// and renewed if it has expired. A request waits for it 10 seconds at most.
//
// The error is [ErrNotConnected], an [*EndedError], an [*UnavailableError], or
// ctx's.
func (s *Source) Credential(ctx context.Context, portal string) (*Credential, error) {
	if local := s.options.Local; local != nil && local.Portal == portal {
		return local, nil
	}
	now := s.now()
	if e, known := s.portals.GetIfPresent(portal); known {
		if e.hinted() && s.store.Answers() {
			s.follow(ctx, e)
		}
		if h := e.current.Load(); h != nil {
			s.attend(e, h, now)
			if credential, err := h.answer(portal, now); err != errExpired {
				return credential, err
			}
		}
	} else if until, known := s.unknown.GetIfPresent(portal); known && now.Before(until) {
		return nil, ErrNotConnected
	}
	// A flight that was under way may be one of Renew, or end at the very
	// moment of the expiry.
	for range 2 {
		credential, err := s.wait(ctx, portal, func(ctx context.Context) (*Credential, error) {
			return s.obtain(ctx, portal)
		})
		if err != ErrNoOther && err != errExpired {
			return credential, err
		}
	}
	return nil, unavailable(portal, 0, errExpired)
}

// Renew returns another credential than the one that HubSpot has rejected with
// a 401, if there is one or it is time to ask for one; expired tells that
// HubSpot gave the token's expiry as its reason. Else the error is
// [ErrNoOther], or one of those of [Source.Credential].
func (s *Source) Renew(ctx context.Context, rejected *Credential, expired bool) (*Credential, error) {
	if rejected == s.options.Local {
		return nil, ErrNoOther
	}
	// A flight that was under way may have begun before the rejection, and
	// end with what was rejected.
	for range 2 {
		credential, err := s.wait(ctx, rejected.Portal, func(ctx context.Context) (*Credential, error) {
			return s.replace(ctx, rejected, expired)
		})
		if gone := (*EndedError)(nil); errors.As(err, &gone) {
			rejected.learned.dead.Store(true)
		}
		if err != nil || !credential.Secret.Equal(rejected.Secret) {
			return credential, err
		}
	}
	return nil, ErrNoOther
}

// wait does one flight for the portal, or joins the one under way, and waits
// for its end, or ctx's, or until patience is at an end. The flight goes on
// without it.
func (s *Source) wait(ctx context.Context, portal string, do func(context.Context) (*Credential, error)) (*Credential, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case result := <-s.flight(portal, do):
		credential, _ := result.Val.(*Credential)
		return credential, result.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timeout.C:
		return nil, unavailable(portal, 0, context.DeadlineExceeded)
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

// obtain reads the portal's record if it is not cached, and renews its
// credential if that has expired.
func (s *Source) obtain(ctx context.Context, id string) (*Credential, error) {
	e := s.entry(id)
	h := e.current.Load()
	if h == nil {
		if err := e.isUnusable(s.now()); err != nil {
			return nil, err
		}
		var err error
		if h, err = s.read(ctx, e); err != nil {
			return nil, s.noCredential(e, err)
		}
	}
	credential, err := h.answer(id, s.now())
	if err == errExpired {
		return s.renew(ctx, e, h, store.Expiry)
	}
	return credential, err
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

// attend begins what the portal needs, in the background: to be renewed, which
// begins with reading it again, or that only. It is read also while a renewal
// is under way, because that may take long.
func (s *Source) attend(e *entry, h *held, now time.Time) {
	if !h.renewAt.IsZero() && !now.Before(h.renewAt) && s.paused(e) == nil {
		began := s.background(&e.renewing, func() {
			<-s.flight(e.id, func(ctx context.Context) (*Credential, error) {
				return s.renew(ctx, e, h, store.Expiry)
			})
		})
		if began {
			return
		}
	}
	if now.UnixNano() >= e.checkAt.Load() {
		e.checkAfter(now, checkSoon) // or when it has been read
		s.check(e)
	}
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

// quietTime is how long after the start nothing is logged about a Redis that
// does not answer: the one who waits for it, or a command that needs it, says
// that better.
const quietTime = 2 * time.Second

// redisChanged returns what logs that Redis stops or begins to answer.
func (s *Source) redisChanged(start time.Time) func(error) {
	var logged atomic.Bool
	return func(err error) {
		switch {
		case err == nil && logged.CompareAndSwap(true, false):
			s.log.Info("Redis answers again")
			s.pending.hurry()
		case err != nil && s.life.Err() == nil && time.Since(start) > quietTime && logged.CompareAndSwap(false, true):
			s.log.Error("Redis does not answer; portals that are known are served and renewed without it", zap.Error(err))
		}
	}
}
