package budget

import (
	"context"
	_ "embed"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store"
)

//go:embed daily.lua
var dailyScript string

var dailyLua = redis.NewScript(dailyScript)

// dailyLimits keeps clients to their own limits of calls a day. It is safe for concurrent
// use.
type dailyLimits struct {
	process *process
	mu      sync.Mutex
	clients map[string]*dailyLimit // by the client's name
}

// dailyLimit is a client's limit of a day, and what the process has reserved of it in
// Redis. dailyLimits.mu guards it.
type dailyLimit struct {
	day   string
	limit int64

	held       int64 // calls that are reserved, and not used
	unreserved int64 // calls that were used without a reservation, and that Redis does not know of
	idle       bool  // no call was used since the last flush

	asking   chan struct{} // closed when Redis has answered or failed; nil means that Redis is not being asked
	answered time.Time     // the time of Redis' last answer
	failed   time.Time     // the time of Redis' last failure; zero if Redis has answered since
	left     int64         // calls that no process had reserved at the last answer
}

// dailyRetry is how long a process waits before it asks Redis again, after Redis has
// failed, or has answered that no call is left.
const dailyRetry = time.Second

// TakeDaily takes one of the calls that the client may send today, by UTC. The limit
// holds for all processes together. TakeDaily returns a [*RefusedError] if no call is
// left, or ctx's error. The caller calls [Budget.SettleDaily] when the call has ended.
//
// A process reserves a twentieth of the calls that are left, so that calls wait for
// Redis only when few are left. While Redis does not answer, a process sends a tenth of
// the calls that were left.
func (l *dailyLimits) TakeDaily(ctx context.Context, client string, limit int64, now time.Time) error {
	for {
		taken, asking, after := l.tryDaily(client, limit, now)
		switch {
		case taken:
			return nil
		case asking == nil:
			l.process.metrics.refused.WithLabelValues(reasonDaily).Inc()
			return &RefusedError{RetryAfter: after, Policy: PolicyDaily, Daily: true}
		}
		select {
		case <-asking:
			now = time.Now()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryDaily takes a call. If there is none, it returns a channel that is closed when the
// caller should try again. If asking is nil, no call is left until after has passed.
func (l *dailyLimits) tryDaily(client string, limit int64, now time.Time) (taken bool, asking <-chan struct{}, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.dailyOf(client, limit, now)
	d.idle = false
	credit := int64(0) // calls that may be used without a reservation
	switch {
	case !d.failed.IsZero():
		credit = max(1, d.left/10)
	case d.answered.IsZero():
		credit = limit / 1000 // the day's first calls need not wait
	}
	switch {
	case d.held > 0:
		d.held--
		if d.held < d.left/40 {
			l.reserve(client, d)
		}
		return true, nil, 0
	case d.unreserved < credit:
		d.unreserved++
		if now.Sub(d.failed) >= dailyRetry {
			l.reserve(client, d)
		}
		return true, nil, 0
	case now.Sub(d.failed) < dailyRetry:
		return false, nil, time.Minute
	case now.Sub(d.answered) < dailyRetry && d.left == 0:
		return false, nil, untilMidnight(now)
	}
	l.reserve(client, d)
	return false, d.asking, 0
}

// SettleDaily records how often the call that was taken has been sent.
func (l *dailyLimits) SettleDaily(client string, sent int) {
	if sent == 1 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch d := l.clients[client]; {
	case d == nil:
	case sent == 0:
		d.held++
	default:
		d.unreserved += int64(sent - 1)
	}
}

func untilMidnight(now time.Time) time.Duration {
	now = now.UTC()
	return time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC).Sub(now)
}

// dailyOf returns the client's limit of today.
func (l *dailyLimits) dailyOf(client string, limit int64, now time.Time) *dailyLimit {
	day := now.UTC().Format(time.DateOnly)
	d := l.clients[client]
	if d == nil || d.day != day {
		d = &dailyLimit{day: day, limit: limit, left: limit}
		l.clients[client] = d
	}
	if d.limit != limit {
		d.limit, d.left, d.answered = limit, 0, time.Time{} // Redis has what is left
	}
	return d
}

// reserve asks Redis for more of the client's calls, unless Redis is being asked already.
// The caller holds l.mu.
func (l *dailyLimits) reserve(client string, d *dailyLimit) {
	if d.asking != nil || l.process.ctx.Err() != nil {
		return
	}
	asking, unreserved, asked := make(chan struct{}), d.unreserved, &dailyLimit{day: d.day, limit: d.limit}
	d.asking = asking
	l.process.goroutines.Go(func() {
		given, left, err := l.askDaily(l.process.ctx, client, asked, math.MaxInt32, -unreserved)
		l.mu.Lock()
		defer l.mu.Unlock()
		defer close(asking)
		d.asking = nil
		if err != nil {
			d.failed = time.Now()
			l.process.log.Warn("a client's daily limit cannot be read from Redis: this process sends a tenth of what was left until it can", zap.Error(err))
			return
		}
		d.held, d.left, d.unreserved = d.held+given, left, d.unreserved-unreserved
		d.answered, d.failed = time.Now(), time.Time{}
	})
}

// giveBackDaily gives back the reserved calls of clients that were idle since the last
// flush, or of all clients, so that other processes can use them.
func (l *dailyLimits) giveBackDaily(ctx context.Context, all bool) {
	l.mu.Lock()
	back := make(map[string]*dailyLimit)
	for client, d := range l.clients {
		if n := d.held - d.unreserved; (d.idle || all) && n != 0 {
			back[client] = &dailyLimit{day: d.day, limit: d.limit, held: n}
			d.held, d.unreserved = 0, 0
		}
		d.idle = true
	}
	l.mu.Unlock()
	for client, d := range back {
		if _, _, err := l.askDaily(ctx, client, d, 0, d.held); err != nil {
			// The client can then use less than its limit today, never more.
			l.process.log.Warn("calls of a client's daily limit cannot be given back to Redis", zap.Error(err))
		}
	}
}

// askDaily reserves up to most calls in Redis, after it has given back some. A negative
// back is calls that were used without a reservation.
func (l *dailyLimits) askDaily(ctx context.Context, client string, d *dailyLimit, most, back int64) (given, left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	answer, err := dailyLua.Run(ctx, l.process.redis, []string{l.process.prefix + "daily:{" + client + "}:" + d.day}, d.limit, most, back).Int64Slice()
	if err == nil && len(answer) != 2 {
		err = store.ErrShape
	}
	if err != nil {
		return 0, 0, store.Failure("reserve calls of a client's day in Redis", err)
	}
	return answer[0], answer[1], nil
}
