// Package soak lets five proxies serve 200 portals while clients come and go
// and faults strike at random, and checks all the time that nothing gets lost,
// doubled or mixed up:
//
//	go test -run Soak ./proxy/soak -v -soak 30m -timeout 0
//
// And it lets random faults befall real processes and a real Redis, which goes
// back in time and loses its data, too, and checks after each round that no
// grant was lost and no removal undone:
//
//	go test -run NoGrantIsLost ./proxy/soak -v -struggle 10m -seed 1 -timeout 0
package soak

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

var (
	soakFlag = flag.Duration("soak", 20*time.Second, "how long the soak lasts")
	seedFlag = flag.Uint64("seed", 0, "the seed of a run, to have its faults again; 0: a new one")
)

const (
	proxies   = 5
	portals   = 200
	tokenLife = 5 * time.Second

	// recovery is how long before the end the last fault begins.
	recovery = 10 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFleetOutlivesASoak(t *testing.T) {
	lasts, seed := *soakFlag, *seedFlag
	if testing.Short() {
		lasts = min(lasts, 8*time.Second)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	if deadline, has := t.Deadline(); has && time.Until(deadline) < lasts+time.Minute {
		t.Fatalf("go test ends a test after %v: give -timeout 0 too", time.Until(deadline).Round(time.Minute))
	}
	before := measure(t)
	t.Logf("%s (-seed %d)", soak(t, lasts, seed), seed)
	t.Log(before.isBack(t))
}

// soak is the story. It returns its summary.
func soak(t *testing.T, lasts time.Duration, seed uint64) string {
	t.Logf("seed %d", seed) // at once, whatever comes
	end := time.Now().Add(lasts)
	w := newWorld(t, seed)
	for range proxies {
		w.fleet.add(w.startProxy())
	}
	// That they serve is the first thing to be seen.
	w.untilWell(time.Time{}, w.portals)

	faultsEnd := end.Add(-min(recovery, lasts/2))
	stopLoad := w.load()
	faults := w.strikePortals(faultsEnd)
	faults.Go(func() { w.replaceProxies(faultsEnd) })
	w.strikeAll(faultsEnd)
	faults.Wait()
	<-time.After(time.Until(end))
	stopLoad()

	w.settled()
	w.close()
	w.judgeAll()
	return w.summary(w.judgeTokenCalls())
}

// world is all there is: HubSpot, Redis, the fleet, and what is known of them.
type world struct {
	t       *testing.T
	seed    uint64
	hub     *hubspottest.Server
	redis   *redistest.Server
	control redis.UniversalClient // of Redis, for faults
	ring    seal.Ring
	portals []*portal
	callers []caller
	fleet   fleet

	// operator is who changes portals. He does not while Redis is away: what
	// came of a command without an answer is another story.
	operator     *tokens.Source
	operatorIsIn sync.RWMutex

	judge    *judge
	calls    *tokenCalls
	logs     *logs
	gaveUp   atomic.Bool // waiting for what does not come
	lastID   atomic.Int64
	probes   *http.Transport
	tokenWay *http.Transport

	descriptors int // that were open at the start
}

// portal is one portal at HubSpot.
type portal struct {
	id   string
	kind tokens.Kind

	mu    sync.Mutex
	value string // its credential, if that is a static one
}

func newWorld(t *testing.T, seed uint64) *world {
	redis.SetLogger(&logging.VoidLogger{}) // as the program does
	w := &world{
		descriptors: descriptors(),
		t:           t, seed: seed, redis: redistest.Start(t, redistest.Persist()), hub: hubspottest.NewServer(),
		logs: &logs{}, probes: new(http.Transport), tokenWay: new(http.Transport),
	}
	w.judge = &judge{t: t, asked: make(map[string]*asked), kinds: make(map[string]int), faults: make(map[string]int)}
	w.calls = &tokenCalls{next: w.tokenWay, judge: w.judge, portals: make(map[string]string), issued: make(map[string]time.Time), last: make(map[string]time.Time)}
	w.judge.calls = w.calls
	w.hub.SetToken(healthy)
	w.hub.Observe(w.judge.observe)
	w.ring = newRing(t)
	w.control = w.openRedis()
	w.operator = tokens.NewSource(tokens.Options{Redis: w.control, Prefix: prefix, Keys: w.ring, Log: w.logs.logger()})
	for i := range portals {
		kind := []tokens.Kind{tokens.OAuth, tokens.AccessToken, tokens.APIKey}[i%3]
		p := &portal{id: strconv.Itoa(1001 + i), kind: kind}
		w.portals = append(w.portals, p)
		w.connect(p)
	}
	w.callers = w.addCallers(clients.Store{Redis: w.control, Prefix: prefix})
	return w
}

// close ends all.
func (w *world) close() {
	var stopping sync.WaitGroup
	for _, m := range w.fleet.all() {
		stopping.Go(func() { w.stopProxy(m) })
	}
	stopping.Wait()
	w.probes.CloseIdleConnections()
	w.tokenWay.CloseIdleConnections()
	ctx, cancel := w.timeout()
	defer cancel()
	if err := w.operator.Close(ctx); err != nil {
		w.judge.violation("the operator's source: %v", err)
	}
	_ = w.control.Close()
	w.redis.Kill()
	// Idle connections that nobody closes end by themselves after a minute.
	w.within(30*time.Second, "nothing is open but HubSpot's listener", func() bool { return descriptors() <= w.descriptors+1 })
	w.hub.Close()
}

// random returns the dice of one actor: what they show depends on the seed
// only.
func (w *world) random(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, actor)) }

// upTo returns a random duration.
func upTo(dice *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(d)))
}

// newSecret returns a value that searches of the log find.
func newSecret(of string) secret.Text {
	return secret.New(hubspottest.Canary + "-" + of + "-" + clients.NewKey().Reveal()[len(wire.KeyPrefix):])
}
