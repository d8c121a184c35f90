package soak

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// judge knows what was asked for, what has reached HubSpot, what was answered,
// and which faults excuse it.
type judge struct {
	t      *testing.T
	owners sync.Map // of static credentials, also of former ones
	calls  *tokenCalls

	mu         sync.Mutex
	asked      map[string]*asked // by id, until it is answered
	kinds      map[string]int    // of answers
	faults     map[string]int
	windows    []*window
	requests   int
	repeated   int // writes that reached HubSpot twice
	violations int
}

// asked is a request that is under way.
type asked struct {
	*request
	credentials []string // with which it has reached HubSpot
}

// violation fails the test.
func (j *judge) violation(format string, args ...any) {
	j.mu.Lock()
	j.violations++
	n := j.violations
	j.mu.Unlock()
	if n <= 20 {
		j.t.Errorf(format, args...)
	}
}

// own notes whose a static credential is.
func (j *judge) own(value, portal string) { j.owners.Store(value, portal) }

// expect notes a request that is going to be sent.
func (j *judge) expect(r *request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.requests++
	j.asked[r.id] = &asked{request: r}
}

// observe judges what reaches HubSpot.
func (j *judge) observe(e hubspottest.Echo) {
	if text := fmt.Sprint(e.Target, e.Header); strings.Contains(text, clientCanary) {
		j.violation("what a client has presented reaches HubSpot: %s", e.Target)
	}
	for name := range e.Header {
		if name == "X-Hubspot-Portal-Id" || strings.HasPrefix(name, "X-Hubspot-Auth-Proxy") {
			j.violation("%s reaches HubSpot", name)
		}
	}
	if strings.HasPrefix(e.Target, "/oauth/") {
		return
	}
	credential, owner := credentialOf(e), e.Portal
	if former, known := j.owners.Load(credential); owner == "" && known {
		owner, _ = former.(string)
	}
	if fault := j.arrived(e.Header.Get("X-Soak-Id"), credential, owner); fault != "" {
		j.violation("%s %s: %s", e.Method, e.Target[:min(40, len(e.Target))], fault)
	}
}

// arrived notes that a request has reached HubSpot, and returns what is wrong
// with that.
func (j *judge) arrived(id, credential, owner string) (fault string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.asked[id]
	switch {
	case r == nil:
		return "it reaches HubSpot after it was answered"
	case strings.HasPrefix(r.expects, "40"):
		return "its caller has no right to it"
	case owner != r.portal.id:
		return fmt.Sprintf("sent with the credential of portal %q, not %s", owner, r.portal.id)
	case r.write() && slices.Contains(r.credentials, credential):
		return "a write is sent twice with one credential"
	case r.write() && len(r.credentials) == 2:
		return "a write is sent more than twice"
	}
	r.credentials = append(r.credentials, credential)
	if r.write() && len(r.credentials) == 2 {
		j.repeated++
	}
	return ""
}

// answered judges what the client saw.
func (j *judge) answered(r *request, a answer, began time.Time) {
	if a.problem != "" {
		j.violation("portal %s: %s", r.portal.id, a.problem)
	}
	if strings.Contains(fmt.Sprint(a.header), hubspottest.Canary) || strings.Contains(fmt.Sprint(a.header), clientCanary) {
		j.violation("a secret is in the header of an answer")
	}
	ended := time.Now()
	j.mu.Lock()
	sent := j.asked[r.id].credentials
	if a.header != nil {
		delete(j.asked, r.id)
	}
	j.kinds[a.kind]++
	excused := j.excused(r, a, sent, began, ended)
	j.mu.Unlock()
	if !excused {
		j.violation("portal %s (%s) answers %s%s, not %s, and nothing excuses that: %s; faults: %s", r.portal.id, r.portal.kind, a.kind, a.category, r.expects, r.method, j.history(r.portal.id, ended))
	}
	if attempts, _ := strconv.Atoi(a.header.Get("X-Hubspot-Auth-Proxy-Attempts")); a.header != nil && r.write() && len(sent) > attempts {
		j.violation("a write was sent %d times in %d attempts", len(sent), attempts)
	}
	r.body = nil // some requests are remembered
}

// excused reports whether the answer is the expected one, or something is to
// blame for it: a fault, or the end of the credential that it was sent with.
func (j *judge) excused(r *request, a answer, sent []string, began, ended time.Time) bool {
	switch {
	case a.kind == r.expects, a.kind == stopped, a.kind == left && r.leaves > 0:
		return true
	case a.kind == reset && r.expects != ok:
		return true // a refusal that came before the body's end (RFC 9112, section 9.6)
	case a.kind == rejected && len(sent) > 0 && j.died(sent[len(sent)-1], began, ended):
		// A body that is too long is not sent again, nor is anything with a
		// token that was itself got for a 401 less than 30 s ago.
		return true
	}
	return slices.ContainsFunc(j.windows, func(w *window) bool {
		return w.concerns(r.portal, a.kind) && (a.kind == reset || slices.Contains(w.allows, a.kind)) && w.overlaps(began, ended)
	})
}

// died reports whether the access token's life ended while a request was under
// way.
func (j *judge) died(token string, began, ended time.Time) bool {
	issued := j.calls.issuedAt(token)
	death := issued.Add(tokenLife)
	return !issued.IsZero() && began.Before(death) && ended.After(death)
}

// window is the time from a fault's begin until all is well again.
type window struct {
	fault        string
	portal       string // empty: all
	redis        bool
	allows       []string
	began, ended time.Time // ended is zero until it is shut
}

// concerns reports whether the fault can be the reason of such an answer for
// the portal. What all portals suffer from keeps tokens from being renewed.
func (w *window) concerns(p *portal, kind string) bool {
	return w.portal == p.id || w.portal == "" && (kind != rejected || p.kind == tokens.OAuth)
}

func (w *window) overlaps(began, ended time.Time) bool {
	return !ended.Before(w.began) && (w.ended.IsZero() || !began.After(w.ended))
}

// open begins a fault's window.
func (j *judge) open(fault, portal string, redis bool, allows ...string) *window {
	j.fault(fault)
	j.mu.Lock()
	defer j.mu.Unlock()
	w := &window{fault: fault, portal: portal, redis: redis, allows: allows, began: time.Now()}
	j.windows = append(j.windows, w)
	return w
}

// history tells of the faults that could concern the portal, for people.
func (j *judge) history(portal string, at time.Time) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var text []string
	for _, w := range j.windows {
		if w.portal == "" || w.portal == portal {
			entry := fmt.Sprintf("%s %v before", w.fault, at.Sub(w.began).Round(time.Millisecond))
			if !w.ended.IsZero() {
				entry += fmt.Sprintf(", for %v", w.ended.Sub(w.began).Round(time.Millisecond))
			}
			text = append(text, entry)
		}
	}
	return strings.Join(text[max(0, len(text)-5):], "; ")
}

// shut ends it.
func (j *judge) shut(w *window) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w.ended = time.Now()
}

// fault counts one.
func (j *judge) fault(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults[name]++
}

// redisAway reports whether Redis was away at some time in between.
func (j *judge) redisAway(began, ended time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.windows, func(w *window) bool { return w.redis && w.overlaps(began, ended) })
}

// credentialOf returns the credential of a request that HubSpot has got.
func credentialOf(e hubspottest.Echo) string {
	if token, is := strings.CutPrefix(e.Header.Get("Authorization"), "Bearer "); is {
		return token
	}
	_, query, _ := strings.Cut(e.Target, "?")
	parameters, _ := url.ParseQuery(query)
	return parameters.Get("hapikey")
}

// settled checks what has to be when all is over: every portal is served by
// every proxy, and by one that knows nothing but Redis.
func (w *world) settled() {
	w.fleet.add(w.startProxy())
	// All refresh tokens are needed now.
	window := w.judge.open("all tokens expired", "", false, rejected)
	for _, p := range w.portals {
		w.hub.Expire(p.id)
		w.calls.force(p.id, window.began, time.Now())
	}
	w.untilWell(time.Now(), w.portals)
	w.judge.shut(window)
	for _, m := range w.fleet.all() {
		w.isIdle(m)
	}
}

// judgeAll checks what was noted all the time, when the last proxy has ended.
func (w *world) judgeAll() {
	for _, violation := range w.hub.Violations() {
		w.judge.violation("HubSpot: %s", violation)
	}
	if repeated, rejections := w.judge.repeated, w.hub.Unauthorized(); repeated > rejections {
		w.judge.violation("%d writes were sent twice after %d rejections", repeated, rejections)
	}
	if served := w.judge.kinds[ok]; served < w.judge.requests/2 {
		w.judge.violation("only %d requests of %d were answered 200", served, w.judge.requests)
	}
	if w.logs.leak != "" || w.logs.lines < w.judge.requests/2 {
		w.judge.violation("the log has %d lines, and this with a secret: %q", w.logs.lines, w.logs.leak)
	}
}

// isIdle fails the test unless the proxy's requests in flight get zero.
func (w *world) isIdle(m *member) {
	w.eventually("no request is in flight", func() bool { return m.gauge("requests_in_flight") == 0 })
}

// gauge returns the value of one of the proxy's gauges.
func (m *member) gauge(name string) float64 {
	families, _ := m.metrics.Gather()
	for _, family := range families {
		if family.GetName() == "hubspot_auth_proxy_"+name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	panic("there is no gauge " + name)
}

// logs searches what is logged, at level debug, for secrets.
type logs struct {
	mu    sync.Mutex
	lines int
	leak  string // the first one that has a secret
}

// Write implements io.Writer; it gets a line at a time.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	if l.leak == "" && (bytes.Contains(p, []byte(hubspottest.Canary)) || bytes.Contains(p, []byte(clientCanary))) {
		l.leak = string(p)
	}
	return len(p), nil
}

func (l *logs) logger() *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(l), zapcore.DebugLevel))
}

// footprint is what the process takes of the machine.
type footprint struct {
	descriptors int
	heap        uint64
}

func measure(t *testing.T) footprint {
	hubspottest.NewServer().Close() // what the first socket leaves is no leak
	return current()
}

// descriptors counts those that are open, -1 where that cannot be known.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

func current() footprint {
	f := footprint{descriptors: descriptors()}
	var stats runtime.MemStats
	for range 2 { // what sync.Pool has survives one
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	f.heap = stats.HeapAlloc
	return f
}

// isBack fails the test unless goroutines, descriptors and memory are again
// what they were before, and returns both.
func (before footprint) isBack(t *testing.T) string {
	const spare = 4 << 20 // of heap, for tables that packages keep
	goleak.VerifyNone(t)
	after := current()
	for deadline := time.Now().Add(15 * time.Second); after.descriptors > before.descriptors || after.heap > before.heap+spare; after = current() {
		if time.Now().After(deadline) {
			t.Errorf("the process takes %+v at the end, %+v at the start", after, before)
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	return fmt.Sprintf("descriptors %d, then %d; heap %d KiB, then %d KiB", before.descriptors, after.descriptors, before.heap>>10, after.heap>>10)
}
