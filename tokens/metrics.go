package tokens

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// What a renewal, or a call of the token endpoint, came to.
const (
	outcomeRenewed   = "renewed"   // by a token call of this process
	outcomeAdopted   = "adopted"   // another replica had done it
	outcomeOK        = "ok"        // the call gave a token
	outcomeEnded     = "ended"     // HubSpot has ended the grant
	outcomeRefused   = "refused"   // HubSpot refuses the app
	outcomeThrottled = "throttled" // HTTP 429
	outcomeFailed    = "failed"    // whatever else
)

// metrics are what a source counts. Nothing is counted where a cached
// credential is handed out.
type metrics struct {
	renewals, tokenCalls  *prometheus.CounterVec
	renewalTime, callTime prometheus.Histogram
	redis                 *redisCalls
}

// newMetrics makes the source's metrics and has its client of Redis counted.
// What is known of portals is looked up when it is asked for.
func newMetrics(s *Source) *metrics {
	factory := promauto.With(s.options.Metrics)
	counter := func(name, help string) prometheus.Counter {
		return factory.NewCounter(prometheus.CounterOpts{Name: MetricPrefix + name, Help: help})
	}
	outcomes := func(name, help string, outcomes ...string) *prometheus.CounterVec {
		vec := factory.NewCounterVec(prometheus.CounterOpts{Name: MetricPrefix + name, Help: help}, []string{"outcome"})
		for _, outcome := range outcomes {
			vec.WithLabelValues(outcome) // there from the start, for rate()
		}
		return vec
	}
	seconds := func(name, help string) prometheus.Histogram {
		return factory.NewHistogram(prometheus.HistogramOpts{Name: MetricPrefix + name, Help: help,
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15}})
	}
	gauge := func(name, help string, value func() float64) {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: MetricPrefix + name, Help: help}, value)
	}
	m := &metrics{
		renewals: outcomes("renewals_total", "Renewals of access tokens.",
			outcomeRenewed, outcomeAdopted, outcomeEnded, outcomeRefused, outcomeFailed),
		renewalTime: seconds("renewal_seconds", "Time of a renewal, with its calls of Redis and of the token endpoint."),
		tokenCalls: outcomes("token_calls_total", "Calls of HubSpot's token endpoint for renewals.",
			outcomeOK, outcomeEnded, outcomeRefused, outcomeThrottled, outcomeFailed),
		callTime: seconds("token_call_seconds", "Time of a call of HubSpot's token endpoint."),
		redis: &redisCalls{
			calls:  counter("redis_calls_total", "Commands to Redis."),
			errors: counter("redis_errors_total", "Commands to Redis that failed."),
		},
	}
	gauge("redis_up", "1 if Redis answered when it was last asked.", m.redis.up)
	gauge("cached_portals", "Portals in this process' cache.", func() float64 {
		return s.countPortals(func(snap *snapshot) bool { return snap.state != removed })
	})
	gauge("ended_grants", "Portals whose grant HubSpot has ended, of those that were called since this process started.", func() float64 {
		return s.countPortals(func(snap *snapshot) bool { return snap.state == ended })
	})
	gauge("unsaved_portals", "Portals that were renewed and are not stored in Redis yet.", func() float64 {
		return float64(len(s.unsaved.all()))
	})
	return m
}

// MetricPrefix begins the name of every metric of the program.
const MetricPrefix = "hubspot_auth_proxy_"

// countPortals counts the cached portals whose snapshot is as asked for.
func (s *Source) countPortals(is func(*snapshot) bool) float64 {
	n := 0.0
	for p := range s.portals.Values() {
		if snap := p.current.Load(); snap != nil && is(snap) {
			n++
		}
	}
	return n
}

// renewal counts one renewal; called tells that a token call of this process
// gave a token. That the portal turned out to be removed is none.
func (m *metrics) renewal(began time.Time, called bool, err error) {
	if errors.Is(err, ErrNotConnected) {
		return
	}
	outcome := outcomeAdopted
	var gone *EndedError
	var refusal *hubspot.Error
	switch {
	case errors.As(err, &gone):
		outcome = outcomeEnded
	case errors.As(err, &refusal) && refusal.Kind == hubspot.AppRefused:
		outcome = outcomeRefused
	case err != nil:
		outcome = outcomeFailed
	case called:
		outcome = outcomeRenewed
	}
	m.renewals.WithLabelValues(outcome).Inc()
	m.renewalTime.Observe(time.Since(began).Seconds())
}

// tokenCall counts one call of the token endpoint.
func (m *metrics) tokenCall(began time.Time, err error) {
	outcome, refusal := outcomeFailed, new(hubspot.Error)
	errors.As(err, &refusal)
	switch {
	case err == nil:
		outcome = outcomeOK
	case refusal.Kind == hubspot.GrantEnded:
		outcome = outcomeEnded
	case refusal.Kind == hubspot.AppRefused:
		outcome = outcomeRefused
	case refusal.Status == http.StatusTooManyRequests:
		outcome = outcomeThrottled
	}
	m.tokenCalls.WithLabelValues(outcome).Inc()
	m.callTime.Observe(time.Since(began).Seconds())
}

// redisCalls is a hook that counts a client's commands, whoever else uses it.
type redisCalls struct {
	calls, errors prometheus.Counter
	answers       atomic.Bool // when last asked
}

func (r *redisCalls) up() float64 {
	if r.answers.Load() {
		return 1
	}
	return 0
}

// DialHook counts nothing: what cannot connect is a command that fails.
func (r *redisCalls) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook counts a command.
func (r *redisCalls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		r.count(command, err)
		return err
	}
}

// ProcessPipelineHook counts each command of a pipeline or transaction.
func (r *redisCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		err := next(ctx, commands)
		for _, command := range commands {
			r.count(command, command.Err())
		}
		return err
	}
}

func (r *redisCalls) count(command redis.Cmder, err error) {
	switch command.Name() {
	case "hello", "auth", "select", "client", // go-redis sends them for another, on a new connection
		"info": // a server need not tell
		return
	}
	r.calls.Inc()
	switch {
	case errors.Is(err, context.Canceled): // by who asked
		return
	case err == nil, errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOSCRIPT"):
		r.answers.Store(true)
	default:
		r.errors.Inc()
		failure := (*store.Error)(nil)
		r.answers.Store(errors.As(store.Failure("", err), &failure) && failure.Answered())
	}
}
