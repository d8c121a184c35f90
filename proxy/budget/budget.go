package budget

import (
	"cmp"
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/throttle"
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
	*dailyLimits
	process *process

	mu      sync.RWMutex
	windows map[windowKey]*window
	sweepAt int // the number of windows at which unused ones are dropped
}

// New returns a budget. Its owner closes it when no call is under way any more.
func New(o Options) *Budget {
	p := &process{
		redis: o.Redis, prefix: o.Prefix, name: rand.Text()[:12], log: throttle.Logger(cmp.Or(o.Log, zap.NewNop()), throttle.Every),
		began: time.Now(),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.metrics = newMetrics(o.Metrics, &p.waiting)
	b := &Budget{
		Usage: newUsage(p, o.Metrics), dailyLimits: &dailyLimits{process: p, clients: make(map[string]*dailyLimit)},
		process: p, windows: make(map[windowKey]*window), sweepAt: firstSweep,
	}
	p.goroutines.Go(b.flushRegularly)
	return b
}

// flushInterval is how often a process adds its counted calls to Redis.
const flushInterval = 3 * time.Second

// flushRegularly adds the counted calls to Redis every flushInterval, until Close.
func (b *Budget) flushRegularly() {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for ctx := b.process.ctx; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := b.flush(ctx); err != nil && ctx.Err() == nil {
			b.process.log.Warn("counted calls cannot be added to Redis: they are kept until they can", zap.Error(err))
		}
		b.giveBackDaily(ctx, false)
	}
}

// Close adds the counted calls to Redis, and ends the budget's goroutines. It returns an
// error if Redis did not take the calls before ctx ended.
func (b *Budget) Close(ctx context.Context) error {
	b.process.cancel()
	b.process.goroutines.Wait()
	err := b.flush(ctx)
	b.giveBackDaily(ctx, true)
	_ = b.process.log.Sync()
	return err
}

// Take returns the call's turn as soon as the call may be sent. It returns a
// [*RefusedError] as soon as it knows that no turn comes within wait, and ctx's error if
// ctx ends first. In each case the turn has the time that the call has waited.
//
// If the call has to wait, Take calls prepare first, and returns its error if there is
// one. prepare may be nil.
func (b *Budget) Take(ctx context.Context, call Call, wait time.Duration, prepare func() error) (Turn, error) {
	w := b.window(windowKey{call.Portal, call.Search})
	if turn, ok := w.takeAtOnce(call.Client, b.process.now()); ok {
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
	b.process.metrics.waited(turn.Waited, err)
	return turn, err
}

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
	w = newWindow(b.process, key)
	b.windows[key] = w
	return w
}

// sweep drops the windows that a new one could replace. The caller holds b.mu.
func (b *Budget) sweep() {
	now := b.process.now()
	for key, w := range b.windows {
		if w.forgettable(now) {
			delete(b.windows, key)
		}
	}
	b.sweepAt = max(firstSweep, 2*len(b.windows))
}
