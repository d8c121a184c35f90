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

// judge records which requests were sent, which of them reached HubSpot, and how they
// were answered. It fails the test for each violation of a promise, unless a fault
// excuses it.
type judge struct {
	t      *testing.T
	owners sync.Map // the portal of each static credential, including replaced ones
	calls  *tokenCalls

	mu         sync.Mutex
	asked      map[string]*asked // requests under way, by id
	kinds      map[string]int    // the number of answers of each kind
	faults     map[string]int    // the number of faults by name
	windows    []*window
	requests   int
	repeated   int // writes that reached HubSpot twice
	violations int
}

// asked is a request that is under way.
type asked struct {
	*request
	credentials []string // the credential of each try that reached HubSpot
}

// violation counts a violation and fails the test. Only the first 20 are reported.
func (j *judge) violation(format string, args ...any) {
	j.mu.Lock()
	j.violations++
	n := j.violations
	j.mu.Unlock()
	if n <= 20 {
		j.t.Errorf(format, args...)
	}
}

// setOwner records the portal that a static credential belongs to.
func (j *judge) setOwner(value, portal string) { j.owners.Store(value, portal) }

// expect records a request that is about to be sent.
func (j *judge) expect(r *request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.requests++
	j.asked[r.id] = &asked{request: r}
}

// observe checks a request that has reached HubSpot.
func (j *judge) observe(e hubspottest.Echo) {
	if text := fmt.Sprint(e.Target, e.Header); strings.Contains(text, clientCanary) {
		j.violation("a client's own credential reaches HubSpot: %s", e.Target)
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

// arrived records that a request has reached HubSpot. It returns a description of the
// violation, or "" if there is none.
func (j *judge) arrived(id, credential, owner string) (fault string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.asked[id]
	switch {
	case r == nil:
		return "the request reaches HubSpot after it was answered"
	case strings.HasPrefix(r.expects, "40"):
		return "the client has no right to send it"
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

// answered checks the answer that the client got.
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
		j.violation("portal %s (%s) answers %s%s, not %s, and no fault excuses that: %s; faults: %s", r.portal.id, r.portal.kind, a.kind, a.category, r.expects, r.method, j.history(r.portal.id, ended))
	}
	if attempts, _ := strconv.Atoi(a.header.Get("X-Hubspot-Auth-Proxy-Attempts")); a.header != nil && r.write() && len(sent) > attempts {
		j.violation("a write was sent %d times in %d attempts", len(sent), attempts)
	}
	r.body = nil // j.asked keeps requests that were not answered
}

// excused reports whether the answer is the expected one, or was caused by a fault or
// by the expiry of the credential that the request was sent with.
func (j *judge) excused(r *request, a answer, sent []string, began, ended time.Time) bool {
	switch {
	case a.kind == r.expects, a.kind == stopped, a.kind == left && r.leaves > 0:
		return true
	case a.kind == reset && r.expects != ok:
		return true // the proxy refused before the body ended (RFC 9112 section 9.6)
	case a.kind == rejected && len(sent) > 0 && j.expired(sent[len(sent)-1], began, ended):
		// The proxy does not send a request again if its body is too long, or if
		// its token was fetched because of a 401 less than 30 s ago.
		return true
	}
	return slices.ContainsFunc(j.windows, func(w *window) bool {
		return w.concerns(r.portal, a.kind) && (a.kind == reset || slices.Contains(w.allows, a.kind)) && w.overlaps(began, ended)
	})
}

// expired reports whether the access token expired while a request was under way.
func (j *judge) expired(token string, began, ended time.Time) bool {
	issued := j.calls.issuedAt(token)
	expiry := issued.Add(tokenLife)
	return !issued.IsZero() && began.Before(expiry) && ended.After(expiry)
}

// window is the time from the start of a fault until the proxies have recovered.
type window struct {
	fault        string
	portal       string    // "" means all portals
	redis        bool      // Redis is unreachable
	allows       []string  // the kinds of answers that the fault excuses
	began, ended time.Time // ended is zero while the window is open
}

// concerns reports whether the fault can cause an answer of this kind for the portal. A
// fault that concerns all portals causes HubSpot's 401 only for OAuth portals, because
// only their tokens have to be renewed.
func (w *window) concerns(p *portal, kind string) bool {
	return w.portal == p.id || w.portal == "" && (kind != rejected || p.kind == tokens.OAuth)
}

func (w *window) overlaps(began, ended time.Time) bool {
	return !ended.Before(w.began) && (w.ended.IsZero() || !began.After(w.ended))
}

// open counts a fault and opens its window.
func (j *judge) open(fault, portal string, redis bool, allows ...string) *window {
	j.fault(fault)
	j.mu.Lock()
	defer j.mu.Unlock()
	w := &window{fault: fault, portal: portal, redis: redis, allows: allows, began: time.Now()}
	j.windows = append(j.windows, w)
	return w
}

// history describes the last five faults that concerned the portal, for messages.
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

// close ends a window.
func (j *judge) close(w *window) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w.ended = time.Now()
}

// fault counts a fault.
func (j *judge) fault(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults[name]++
}

// redisUnreachable reports whether Redis was unreachable at some time between began and
// ended.
func (j *judge) redisUnreachable(began, ended time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.windows, func(w *window) bool { return w.redis && w.overlaps(began, ended) })
}

// credentialOf returns the credential of a request that HubSpot has received.
func credentialOf(e hubspottest.Echo) string {
	if token, is := strings.CutPrefix(e.Header.Get("Authorization"), "Bearer "); is {
		return token
	}
	_, query, _ := strings.Cut(e.Target, "?")
	parameters, _ := url.ParseQuery(query)
	return parameters.Get("hapikey")
}

// checkRecovery checks that after all faults, every portal is served by every proxy
// and by a new proxy, which knows only what is in Redis.
func (w *world) checkRecovery() {
	w.fleet.add(w.startProxy())
	// Each portal now needs its refresh token.
	window := w.judge.open("all tokens expired", "", false, rejected)
	for _, p := range w.portals {
		w.hub.Expire(p.id)
		w.calls.force(p.id, window.began, time.Now())
	}
	w.waitUntilServed(time.Now(), w.portals)
	w.judge.close(window)
	for _, m := range w.fleet.all() {
		w.isIdle(m)
	}
}

// judgeAll checks the totals after the last proxy has ended.
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
		w.judge.violation("the log has %d lines; the first line with a secret is %q", w.logs.lines, w.logs.leak)
	}
}

// isIdle waits until the proxy has no request in flight, and fails the test if that
// takes too long.
func (w *world) isIdle(m *member) {
	w.eventually("no request is in flight", func() bool { return m.gauge("requests_in_flight") == 0 })
}

// gauge returns the value of the proxy's gauge of that name. It panics if there is no
// such gauge.
func (m *member) gauge(name string) float64 {
	families, _ := m.metrics.Gather()
	for _, family := range families {
		if family.GetName() == "hubspot_auth_proxy_"+name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	panic("there is no gauge " + name)
}

// logs searches the log of all proxies, at level debug, for secrets.
type logs struct {
	mu    sync.Mutex
	lines int
	leak  string // the first line with a secret
}

// Write implements io.Writer. zap writes one line at a time.
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

// footprint is the number of open descriptors and the bytes of heap that the process
// uses.
type footprint struct {
	descriptors int
	heap        uint64
}

func measure(t *testing.T) footprint {
	hubspottest.NewServer().Close() // the first socket of a process leaves descriptors open
	return current()
}

// descriptors returns the number of open descriptors, or -1 where the system does not
// list them.
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
	for range 2 { // because the contents of a sync.Pool survive one collection
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	f.heap = stats.HeapAlloc
	return f
}

// isBack fails the test unless goroutines, descriptors and memory are back to what they
// were before. It returns both footprints as text.
func (before footprint) isBack(t *testing.T) string {
	const spare = 4 << 20 // bytes of heap, for tables that packages keep
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
