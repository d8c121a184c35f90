// Package soak has tests only, which let faults happen at random.
//
// TestAFleetServesAllPortalsDuringASoak runs five proxies with 200 portals while clients
// call. It checks each request and answer: none is lost, sent twice, or mixed up with
// another.
//
//	go test -run Soak ./proxy/soak -v -soak 30m -timeout 0
//
// TestNoGrantIsLostAndNoRemovalUndone runs real processes with a real Redis, which also
// loses data or returns to an earlier state. After each round the test checks that no
// grant was lost and no removal undone.
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
	seedFlag = flag.Uint64("seed", 0, "the seed of a run whose faults are to be repeated; 0 means a new seed")
)

const (
	proxies   = 5
	portals   = 200
	tokenLife = 5 * time.Second

	// recovery is the time between the start of the last fault and the end.
	recovery = 10 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFleetServesAllPortalsDuringASoak(t *testing.T) {
	lasts, seed := *soakFlag, *seedFlag
	if testing.Short() {
		lasts = min(lasts, 8*time.Second)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	if deadline, has := t.Deadline(); has && time.Until(deadline) < lasts+time.Minute {
		t.Fatalf("go test would end this test after %v; add -timeout 0", time.Until(deadline).Round(time.Minute))
	}
	before := measure(t)
	t.Logf("%s (-seed %d)", soak(t, lasts, seed), seed)
	t.Log(before.isBack(t))
}

// soak runs the whole soak and returns a summary.
func soak(t *testing.T, lasts time.Duration, seed uint64) string {
	t.Logf("seed %d", seed) // first, so that the log has it even if the test panics
	end := time.Now().Add(lasts)
	w := newWorld(t, seed)
	for range proxies {
		w.fleet.add(w.startProxy())
	}
	// Without faults, all proxies must serve all portals.
	w.waitUntilServed(time.Time{}, w.portals)

	faultsEnd := end.Add(-min(recovery, lasts/2))
	stopLoad := w.load()
	faults := w.strikePortals(faultsEnd)
	faults.Go(func() { w.replaceProxies(faultsEnd) })
	w.strikeAll(faultsEnd)
	faults.Wait()
	<-time.After(time.Until(end))
	stopLoad()

	w.checkRecovery()
	w.close()
	w.judgeAll()
	return w.summary(w.judgeTokenCalls())
}

// world has the fake HubSpot, Redis, the fleet, and the state that the test expects of
// them.
type world struct {
	t       *testing.T
	seed    uint64
	hub     *hubspottest.Server
	redis   *redistest.Server
	control redis.UniversalClient // the operator's client of Redis
	ring    seal.Ring
	portals []*portal
	callers []caller
	fleet   fleet

	// operator changes portals, and holds operatorMayWork for reading during each change.
	// A fault of Redis locks operatorMayWork for writing, so that no change is under way.
	// If Redis did not answer a change, the test could not know whether the change was
	// stored.
	operator        *tokens.Source
	operatorMayWork sync.RWMutex

	judge          *judge
	calls          *tokenCalls
	logs           *logs
	gaveUp         atomic.Bool // a condition did not come true; see within
	lastID         atomic.Int64
	probes         *http.Transport
	tokenTransport *http.Transport

	descriptors int // the number that were open at the start
}

// portal is one portal at HubSpot.
type portal struct {
	id   string
	kind tokens.Kind

	mu    sync.Mutex
	value string // the static credential; "" for OAuth portals
}

func newWorld(t *testing.T, seed uint64) *world {
	redis.SetLogger(&logging.VoidLogger{}) // as in the program
	w := &world{
		descriptors: descriptors(),
		t:           t, seed: seed, redis: redistest.Start(t, redistest.Persist()), hub: hubspottest.NewServer(),
		logs: &logs{}, probes: new(http.Transport), tokenTransport: new(http.Transport),
	}
	w.judge = &judge{t: t, asked: make(map[string]*asked), kinds: make(map[string]int), faults: make(map[string]int)}
	w.calls = &tokenCalls{next: w.tokenTransport, judge: w.judge, portals: make(map[string]string), issued: make(map[string]time.Time), last: make(map[string]time.Time)}
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

// close stops the fleet and closes everything else.
func (w *world) close() {
	var stopping sync.WaitGroup
	for _, m := range w.fleet.all() {
		stopping.Go(func() { w.stopProxy(m) })
	}
	stopping.Wait()
	w.probes.CloseIdleConnections()
	w.tokenTransport.CloseIdleConnections()
	ctx, cancel := w.timeout()
	defer cancel()
	if err := w.operator.Close(ctx); err != nil {
		w.judge.violation("the operator's source: %v", err)
	}
	_ = w.control.Close()
	w.redis.Kill()
	// An idle connection that the program left open would be closed after a minute,
	// so 30 s is short enough to find it.
	w.within(30*time.Second, "nothing is open but HubSpot's listener", func() bool { return descriptors() <= w.descriptors+1 })
	w.hub.Close()
}

// random returns the source of random numbers of one actor. The numbers depend on the
// seed and the actor only.
func (w *world) random(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, actor)) }

// upTo returns a random duration of at least 0 and less than d.
func upTo(dice *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(d)))
}

// newSecret returns a new secret that contains the canary.
func newSecret(of string) secret.Text {
	return secret.New(hubspottest.Canary + "-" + of + "-" + clients.NewKey().Reveal()[len(wire.KeyPrefix):])
}
