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

// The limits that a process assumes until HubSpot's headers name others. HubSpot sends
// no such headers with answers to searches.
const (
	defaultLimit    = 100
	defaultInterval = 10 * time.Second
	searchLimit     = 5
	searchInterval  = time.Second
)

// Bounds of what a process learns from HubSpot's headers.
const (
	maxLimit                 = 10_000
	minInterval, maxInterval = time.Second, time.Minute
)

const (
	// maxWaiting is how many calls of one client may wait for one portal in a process.
	// maxWaitingTotal is how many calls of all clients may wait for all portals.
	maxWaiting, maxWaitingTotal = 1000, 20_000

	// visitTimeout is the timeout of one script in Redis. When Redis stops answering,
	// each call that waits for its turn waits this much longer, once.
	visitTimeout = time.Second

	// probeInterval is how often a process pings a Redis that does not answer.
	probeInterval = 500 * time.Millisecond
)

// Options configure a [Budget].
type Options struct {
	// Redis has the windows. Its owner closes it, after [Budget.Close].
	Redis redis.UniversalClient

	// Prefix is the beginning of every key in Redis.
	Prefix string

	// Metrics registers the metrics. Nil means no metrics.
	Metrics prometheus.Registerer

	// Log receives messages for operators. Nil means no log.
	Log *zap.Logger
}

// A Budget gives calls their turns, and counts calls. [New] returns one. It is safe for
// concurrent use.
type Budget struct {
	*Usage

	redis   redis.UniversalClient
	prefix  string
	process string      // the random name of this process
	log     *zap.Logger // throttled
	metrics *metrics
	began   time.Time // the zero of all times in the process

	mu      sync.RWMutex
	windows map[windowKey]*window
	sweepAt int // the number of windows at which unused ones are dropped

	waiting atomic.Int64
	outage  outage

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
}

type windowKey struct {
	portal string
	search bool
}

// New returns a budget. Its owner closes it when no call is under way any more.
func New(o Options) *Budget {
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	b := &Budget{
		redis: o.Redis, prefix: o.Prefix, process: rand.Text()[:12], log: throttle.Logger(log, throttle.Every),
		began: time.Now(), windows: make(map[windowKey]*window), sweepAt: firstSweep,
	}
	b.metrics = newMetrics(o.Metrics, &b.waiting)
	b.Usage = newUsage(b, o.Metrics)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.goroutines.Go(func() { b.Usage.flushRegularly(b.ctx) })
	return b
}

// Close adds the counted calls to Redis, and ends the budget's goroutines. It returns an
// error if Redis did not take the calls before ctx ended.
func (b *Budget) Close(ctx context.Context) error {
	b.cancel()
	b.goroutines.Wait()
	err := b.Usage.flush(ctx)
	b.Usage.giveBackDaily(ctx, true)
	_ = b.log.Sync()
	return err
}

// A Call is what a turn is for.
type Call struct {
	Portal string

	// Client is the client's name. Anonymous clients share the empty name.
	Client string

	// Search reports that the call is a search of CRM objects. Searches have a limit
	// of their own.
	Search bool

	// Again reports that HubSpot has answered 429 to the call. The call then has the
	// next turn of its client.
	Again bool
}

// A RefusedError reports that a call has no turn.
type RefusedError struct {
	// RetryAfter is how long it takes until there may be a turn. It is above zero.
	RetryAfter time.Duration

	// Policy is HubSpot's name for the limit.
	Policy string

	// Full reports that too many calls of the client wait already. Daily reports that
	// the client's own daily limit is used up.
	Full, Daily bool
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("no turn within the limit %s before %v", e.Policy, e.RetryAfter)
}

// Take returns the call's turn as soon as the call may be sent. It returns a
// [*RefusedError] as soon as it knows that no turn comes within wait, and ctx's error if
// ctx ends first. In each case the turn has the time that the call has waited.
//
// If the call has to wait, Take calls prepare first, and returns its error if there is
// one. prepare may be nil.
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

// now returns the time since the budget was made. All times in the process are in this
// form.
func (b *Budget) now() time.Duration { return time.Since(b.began) }

// firstSweep is the number of windows at which unused ones are dropped first.
const firstSweep = 4096

// window returns the window of the key. If there is none, window makes a new one.
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

// sweep drops the windows that a new one could replace. The caller holds b.mu.
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

// outage is the state of Redis. While Redis is down, a process keeps to its share of
// each limit.
type outage struct {
	down   atomic.Bool
	number atomic.Int64 // how many outages there have been
}

// beginOutage marks Redis as down, and pings it until it answers.
func (b *Budget) beginOutage(err error) {
	if b.ctx.Err() != nil || !b.outage.down.CompareAndSwap(false, true) {
		return
	}
	b.outage.number.Add(1)
	b.log.Warn("the rate limits' windows cannot be read from Redis: this process keeps to its own share of each limit until they can", zap.Error(err))
	b.goroutines.Go(func() {
		for {
			select {
			case <-b.ctx.Done():
				return
			case <-time.After(probeInterval):
			}
			ctx, cancel := context.WithTimeout(b.ctx, visitTimeout)
			err := b.redis.Ping(ctx).Err()
			cancel()
			if err == nil {
				b.outage.down.Store(false)
				return
			}
		}
	})
}

// failure wraps an error of Redis for the log.
func failure(err error) error { return store.Failure("visit a rate limit's window in Redis", err) }
