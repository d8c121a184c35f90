package budget

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store"
)

const (
	// visitTimeout is the timeout of one script in Redis. When Redis stops answering,
	// each call that waits for its turn waits this much longer, once.
	visitTimeout = time.Second

	// probeInterval is how often a process pings a Redis that does not answer.
	probeInterval = 500 * time.Millisecond
)

// A process has what all windows and counters of one [Budget] use together: Redis, the log,
// the metrics, and whether Redis answers.
type process struct {
	redis   redis.UniversalClient
	prefix  string
	name    string      // random
	log     *zap.Logger // throttled
	metrics *metrics
	began   time.Time // the zero of all times in the process

	waiting atomic.Int64 // calls that wait for turns of any window

	down    atomic.Bool  // Redis does not answer, so the process keeps to its share of each limit
	outages atomic.Int64 // how often Redis has stopped answering

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
}

// now returns the time since the process began. All times in the process are in this form.
func (p *process) now() time.Duration { return time.Since(p.began) }

// beginOutage marks Redis as down because of the error, and pings Redis until it answers.
func (p *process) beginOutage(err error) {
	if p.ctx.Err() != nil || !p.down.CompareAndSwap(false, true) {
		return
	}
	p.outages.Add(1)
	p.log.Warn("the rate limits' windows cannot be read from Redis: this process keeps to its own share of each limit until they can",
		zap.Error(store.Failure("visit a rate limit's window in Redis", err)))
	p.goroutines.Go(func() {
		for {
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(probeInterval):
			}
			ctx, cancel := context.WithTimeout(p.ctx, visitTimeout)
			err := p.redis.Ping(ctx).Err()
			cancel()
			if err == nil {
				p.down.Store(false)
				return
			}
		}
	})
}
