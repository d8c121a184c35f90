package soak

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// healthy is the behaviour of the token endpoint without faults.
var healthy = hubspottest.TokenBehaviour{Life: tokenLife, Rotate: true}

// The kinds of answers that clients may get during a fault.
const (
	unavailable  = "503 CREDENTIAL_UNAVAILABLE"
	notConnected = "403 PORTAL_NOT_CONNECTED"
	rejected     = "401 of HubSpot" // the credential could not be renewed at once
)

// disaster is a fault that concerns all portals.
type disaster struct {
	name       string
	redis      bool     // Redis is unreachable
	allows     []string // the kinds of answers that the disaster excuses
	begin, end func(*world)
}

var (
	withoutTokens = []string{unavailable, rejected}
	withoutRedis  = []string{unavailable, rejected}
)

var disasters = []disaster{
	{"Redis paused", true, withoutRedis, func(w *world) { w.redis.Pause() }, func(w *world) { w.redis.Resume() }},
	{"Redis killed and restarted", true, withoutRedis, func(w *world) { w.redis.Kill() }, func(w *world) { w.redis.Restart() }},
	{"connections to Redis cut", true, withoutRedis, (*world).cutRedis, (*world).cutRedis},
	{"token endpoint answers 500", false, withoutTokens, tokenEndpoint(http.StatusInternalServerError, 0), tokenEndpoint(0, 0)},
	{"token endpoint answers 429", false, withoutTokens, tokenEndpoint(http.StatusTooManyRequests, 0), tokenEndpoint(0, 0)},
	{"token endpoint slow", false, nil, tokenEndpoint(0, time.Second), tokenEndpoint(0, 0)},
}

func (w *world) cutRedis() {
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr})
	defer client.Close() // here and not when the test ends, because open descriptors are counted before the test ends
	for _, kind := range []string{"normal", "pubsub"} {
		_ = client.ClientKillByFilter(context.Background(), "TYPE", kind).Err()
	}
}

func tokenEndpoint(status int, latency time.Duration) func(*world) {
	b := healthy
	b.Status, b.Latency, b.RetryAfter = status, latency, "1"
	return func(w *world) { w.hub.SetToken(b) }
}

// strikeAll lets one or two disasters happen at a time, waits for recovery, and repeats
// both until the end.
func (w *world) strikeAll(end time.Time) {
	dice := w.random(101)
	for {
		first := disasters[dice.IntN(len(disasters))]
		second := disasters[dice.IntN(len(disasters))]
		together := []disaster{first}
		if first.redis != second.redis {
			together = append(together, second)
		}
		w.strike(together, 500*time.Millisecond+upTo(dice, 3*time.Second))
		<-time.After(time.Second) // without a disaster
		if time.Now().After(end) {
			return
		}
	}
}

// strike lets the disasters happen together, and returns after recovery.
func (w *world) strike(disasters []disaster, lasts time.Duration) {
	redis := slices.ContainsFunc(disasters, func(d disaster) bool { return d.redis })
	if redis {
		w.operatorMayWork.Lock()
	}
	var windows []*window
	for _, d := range disasters {
		windows = append(windows, w.judge.open(d.name, "", d.redis, d.allows...))
		d.begin(w)
	}
	<-time.After(lasts)
	for _, d := range disasters {
		d.end(w)
	}
	if redis {
		// go-redis reports the last failure for up to a second after Redis is back.
		w.eventually("the operator reaches Redis", func() bool { return w.control.Ping(context.Background()).Err() == nil })
		w.operatorMayWork.Unlock()
	}
	w.waitUntilServed(time.Now(), w.portals)
	w.eventually("renewed portals are stored", func() bool {
		return !slices.ContainsFunc(w.fleet.all(), func(m *member) bool { return m.gauge("unsaved_portals") > 0 })
	})
	for _, window := range windows {
		w.judge.close(window)
	}
}

// mishap is a fault of one portal, which recovers by itself.
type mishap struct {
	name   string
	kinds  []tokens.Kind
	allows []string
	strike func(*world, *portal)
}

var (
	renewed = []tokens.Kind{tokens.OAuth}
	static  = []tokens.Kind{tokens.AccessToken, tokens.APIKey}
)

var mishaps = []mishap{
	{"token expired early", renewed, []string{rejected}, func(w *world, p *portal) { w.hub.Expire(p.id) }},
	// HubSpot gives a reason that no renewal cures, and the last renewal is recent.
	{"token revoked", renewed, []string{rejected}, func(w *world, p *portal) { w.hub.Revoke(p.id) }},
	{"credential replaced", static, []string{rejected}, (*world).connect},
	{"portal removed and connected again", slices.Concat(renewed, static), []string{notConnected, rejected}, (*world).reconnect},
}

// strikePortals lets mishaps happen to random portals until the end.
func (w *world) strikePortals(end time.Time) *sync.WaitGroup {
	const strikers = 8
	var striking sync.WaitGroup
	for i := range strikers {
		dice := w.random(uint64(200 + i))
		striking.Go(func() {
			for time.Now().Before(end) {
				p := w.portals[i+strikers*dice.IntN(portals/strikers)] // each goroutine has its own portals
				w.strikePortal(p, dice)
				<-time.After(upTo(dice, 300*time.Millisecond))
			}
		})
	}
	return &striking
}

func (w *world) strikePortal(p *portal, dice *rand.Rand) {
	fitting := slices.DeleteFunc(slices.Clone(mishaps), func(m mishap) bool { return !slices.Contains(m.kinds, p.kind) })
	m := fitting[dice.IntN(len(fitting))]
	window := w.judge.open(m.name, p.id, false, m.allows...)
	m.strike(w, p)
	w.calls.force(p.id, window.began, time.Now())
	w.waitUntilServed(time.Now(), []*portal{p})
	w.judge.close(window)
}

// reconnect removes the portal and connects it again.
func (w *world) reconnect(p *portal) {
	w.operatorMayWork.RLock()
	defer w.operatorMayWork.RUnlock()
	w.must("remove a portal", w.operator.Remove(context.Background(), p.id, "soak"))
	<-time.After(100 * time.Millisecond)
	w.set(p)
}

// connect gives the portal a new credential, in HubSpot and in Redis.
func (w *world) connect(p *portal) {
	w.operatorMayWork.RLock()
	defer w.operatorMayWork.RUnlock()
	w.set(p)
}

func (w *world) set(p *portal) {
	value := newSecret(string(p.kind))
	switch p.kind {
	case tokens.OAuth:
		value = w.calls.connect(w.hub, p.id)
	case tokens.AccessToken:
		w.judge.setOwner(value.Reveal(), p.id)
		w.hub.SetAccessToken(p.id, value.Reveal())
	case tokens.APIKey:
		w.judge.setOwner(value.Reveal(), p.id)
		w.hub.SetAPIKey(p.id, value.Reveal())
	}
	p.mu.Lock()
	p.value = value.Reveal()
	p.mu.Unlock()
	w.must("set a portal", w.operator.Set(context.Background(), tokens.Seed{Portal: p.id, Kind: p.kind, Secret: value}, "soak"))
}

func (w *world) must(what string, err error) {
	if err != nil {
		w.judge.violation("%s: %v", what, err)
	}
}

// waitUntilServed waits until each proxy has served each of the portals with a
// credential that was issued after since, or with the newest static credential.
func (w *world) waitUntilServed(since time.Time, portals []*portal) {
	var mu sync.Mutex
	unserved := make(map[*member][]*portal)
	w.eventually("every proxy serves every portal", func() bool {
		var asking sync.WaitGroup
		left := 0
		for _, m := range w.fleet.all() {
			asking.Go(func() {
				mu.Lock()
				remaining, known := unserved[m]
				mu.Unlock()
				if !known {
					remaining = slices.Clone(portals)
				}
				remaining = slices.DeleteFunc(remaining, func(p *portal) bool { return w.mayHaveNewCredential(p, since) && w.serves(m, p, since) })
				mu.Lock()
				defer mu.Unlock()
				unserved[m] = remaining
				if !m.stopping.Load() {
					left += len(remaining)
				}
			})
		}
		asking.Wait()
		return left == 0
	})
}

// mayHaveNewCredential reports whether a call for the portal can use a credential that
// is newer than since. A call is of no use while the portal's token is older and not
// due for renewal.
func (w *world) mayHaveNewCredential(p *portal, since time.Time) bool {
	issued := w.calls.lastIssued(p.id)
	return p.kind != tokens.OAuth || issued.After(since) || time.Since(issued) > tokenLife/2
}

// serves calls the member for the portal, and reports whether HubSpot answered 200 and
// got a credential that was issued after since, or the newest static credential.
func (w *world) serves(m *member, p *portal, since time.Time) bool {
	if m.stopping.Load() {
		return false
	}
	a := w.ask(w.probes, m, w.newRequest(p))
	if a.kind != ok {
		return false
	}
	value := credentialOf(a.echo)
	if p.kind == tokens.OAuth {
		return w.calls.issuedAt(value).After(since)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return value == p.value
}

// eventually waits up to two minutes for a condition.
func (w *world) eventually(what string, condition func() bool) {
	w.within(2*time.Minute, what, condition)
}

// within waits up to limit for a condition. After one condition has not come true,
// within does not wait any more, so that the test ends soon.
func (w *world) within(limit time.Duration, what string, condition func() bool) {
	deadline := time.Now().Add(limit)
	for !condition() && !w.gaveUp.Load() {
		if time.Now().After(deadline) {
			w.judge.violation("not within %v: %s", limit, what)
			w.gaveUp.Store(true)
		}
		<-time.After(100 * time.Millisecond)
	}
}
