package budget

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/throttle"
)

// HubSpot's limits, until its headers say otherwise. Answers to searches have no
// such headers.
const (
	defaultLimit    = 100
	defaultInterval = 10 * time.Second
	searchLimit     = 5
	searchInterval  = time.Second
)

// What is learned from HubSpot is bounded by these.
const (
	mostLimit                   = 10_000
	leastInterval, mostInterval = time.Second, time.Minute
)

const (
	// mostWaiting is how many calls of one client wait for a portal in a process,
	// and mostWaitingInAll how many of all clients for all portals.
	mostWaiting, mostWaitingInAll = 1000, 20_000

	// visitTimeout is how long a visit of Redis may take. Calls that wait for their
	// turn are delayed by it once, when Redis stops to answer.
	visitTimeout = time.Second

	// probeEvery is how often a process looks whether Redis answers again.
	probeEvery = 500 * time.Millisecond
)

// Options are what a [Budget] works with.
type Options struct {
	// Redis is closed by its owner, after [Budget.Close].
	Redis redis.UniversalClient

	// Prefix begins every key.
	Prefix string

	// Metrics is where the metrics are registered. Nil means nowhere.
	Metrics prometheus.Registerer

	// Log gets what operators should know. Nil means that nothing is logged.
	Log *zap.Logger
}

// A Budget gives calls their turns, and counts them. Make it with [New]. It is safe
// for concurrent use.
type Budget struct {
	*Usage

	redis   redis.UniversalClient
	prefix  string
	process string // of this process, random
	faults  *zap.Logger
	metrics *metrics
	began   time.Time

	mu      sync.RWMutex
	windows map[windowKey]*window
	sweepAt int // windows that are not in use are dropped when there are so many

	waiting atomic.Int64
	outage  outage

	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup
}

type windowKey struct {
	portal string
	search bool
}

// New returns a budget. Close it when no call is under way any more.
func New(o Options) *Budget {
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	b := &Budget{
		redis: o.Redis, prefix: o.Prefix, process: rand.Text()[:12], faults: throttle.Logger(log, throttle.Every),
		began: time.Now(), windows: make(map[windowKey]*window), sweepAt: firstSweep,
	}
	b.metrics = newMetrics(o.Metrics, &b.waiting)
	b.Usage = newUsage(b, o.Metrics)
	b.life, b.end = context.WithCancel(context.Background())
	b.work.Go(func() { b.Usage.flushRegularly(b.life) })
	return b
}

// Close adds to Redis what was counted, and ends all that the budget does. It returns
// an error if calls could not be added before ctx ended.
func (b *Budget) Close(ctx context.Context) error {
	b.end()
	b.work.Wait()
	err := b.Usage.flush(ctx)
	b.Usage.giveBackDaily(ctx, true)
	_ = b.faults.Sync()
	return err
}

// A Call is what a turn is for.
type Call struct {
	Portal string

	// Client is the client's name, empty for all anonymous ones.
	Client string

	// Search means that it is a search of CRM objects, which have a limit of their own.
	Search bool

	// Again means that HubSpot has answered 429 to the call, so that it goes first
	// of those of its client.
	Again bool
}

// A RefusedError is why a call has no turn.
type RefusedError struct {
	// RetryAfter is when there may be a turn. More than zero.
	RetryAfter time.Duration

	// Policy is HubSpot's name for the limit.
	Policy string

	// Full means that too many calls of the client wait already, and Daily that the
	// client's own daily limit is used up.
	Full, Daily bool
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("no turn within the limit %s before %v", e.Policy, e.RetryAfter)
}

// Take returns the call's turn when the call may be sent. The error is a
// [*RefusedError] if there is none within wait, as soon as that is known, or ctx's
// error if ctx ends first. Either way the turn says how long the call has waited. If the call has to wait, prepare is called before, unless
// it is nil; its error is returned.
func (b *Budget) Take(ctx context.Context, call Call, wait time.Duration, prepare func() error) (Turn, error) {
	w := b.window(windowKey{call.Portal, call.Search})
	if turn, ok := w.takeAtOnce(call.Client, b.now()); ok {
		return turn, nil
	}
	if prepare != nil {
		if err := prepare(); err != nil {
			return Turn{}, err
		}
	}
	began := time.Now()
	turn, err := w.wait(ctx, call, began.Add(wait))
	turn.Waited = time.Since(began)
	b.metrics.waited(turn.Waited, err)
	return turn, err
}

// now returns the time since the budget was made, as all times in a process are kept.
func (b *Budget) now() time.Duration { return time.Since(b.began) }

// firstSweep is when windows that are not in use are looked for first.
const firstSweep = 4096

// window returns the window, made if need be.
func (b *Budget) window(key windowKey) *window {
	b.mu.RLock()
	w := b.windows[key]
	b.mu.RUnlock()
	if w != nil {
		return w
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w = b.windows[key]; w != nil {
		return w
	}
	if len(b.windows) >= b.sweepAt {
		b.sweep()
	}
	w = newWindow(b, key)
	b.windows[key] = w
	return w
}

// sweep drops the windows that know nothing that a new one would not.
func (b *Budget) sweep() {
	now := b.now()
	for key, w := range b.windows {
		if w.forgettable(now) {
			delete(b.windows, key)
		}
	}
	b.sweepAt = max(firstSweep, 2*len(b.windows))
}

// key returns the window's key in Redis.
func (b *Budget) key(k windowKey) string {
	key := b.prefix + "budget:{" + k.portal + "}"
	if k.search {
		key += ":search"
	}
	return key
}

// outage is whether Redis does not answer, so that processes keep to their shares.
type outage struct {
	down   atomic.Bool
	number atomic.Int64 // of outages so far
}

// begin notes that Redis has failed, and has it probed until it answers.
func (b *Budget) beginOutage(err error) {
	if b.life.Err() != nil || !b.outage.down.CompareAndSwap(false, true) {
		return
	}
	b.outage.number.Add(1)
	b.faults.Warn("the rate limits' windows cannot be read from Redis: this process keeps to its own share of each limit until they can", zap.Error(err))
	b.work.Go(func() {
		for {
			select {
			case <-b.life.Done():
				return
			case <-time.After(probeEvery):
			}
			ctx, cancel := context.WithTimeout(b.life, visitTimeout)
			err := b.redis.Ping(ctx).Err()
			cancel()
			if err == nil {
				b.outage.down.Store(false)
				return
			}
		}
	})
}

// failure makes an error of Redis fit to be logged.
func failure(err error) error { return store.Failure("visit a rate limit's window in Redis", err) }
