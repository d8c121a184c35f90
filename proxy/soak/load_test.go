package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

// clientCanary is part of every credential that a client presents to the proxy. It must
// not reach HubSpot or the log.
const clientCanary = "soak-client"

const workers = 8

// caller is a client with a key, and the portals that it may use.
type caller struct {
	key     string
	portals []*portal
}

// addCallers stores clients that may use one portal, several portals, or all.
func (w *world) addCallers(store clients.Store) []caller {
	var callers []caller
	for i := range 30 {
		c := caller{key: wire.KeyPrefix + clientCanary + "-key-" + strconv.Itoa(i), portals: w.portals}
		may := []string{clients.AllPortals}
		if i >= 3 {
			c.portals = w.portals[i*5:][:1+(i%2)*30]
			may = nil
			for _, p := range c.portals {
				may = append(may, p.id)
			}
		}
		client := clients.Client{Name: "caller-" + strconv.Itoa(i), KeySHA256: clients.Hash(secret.New(c.key)), Portals: may}
		if err := store.Add(context.Background(), client); err != nil {
			w.t.Fatal(err)
		}
		callers = append(callers, c)
	}
	return callers
}

// request is one request that a client is going to send.
type request struct {
	id      string
	portal  *portal
	method  string
	target  string
	header  http.Header
	body    []byte
	chunked bool
	expects string        // the kind of answer without faults
	leaves  time.Duration // the client disconnects after this time; 0 means never
	slowly  bool          // the client reads the answer slowly
}

const (
	ok      = "200"
	broken  = "answer broken off"
	left    = "client left"
	stopped = "proxy was stopping"
	reset   = "reset while the body was sent"
)

func (r *request) write() bool { return r.method != http.MethodGet }

// load lets clients connect, call and disconnect until stop is called.
func (w *world) load() (stop func()) {
	var working sync.WaitGroup
	var over atomic.Bool
	for i := range workers {
		dice := w.random(uint64(i))
		working.Go(func() {
			for !over.Load() {
				w.visit(dice)
			}
		})
	}
	return func() {
		over.Store(true)
		working.Wait()
	}
}

// visit is one client that connects, calls a few times, and disconnects.
func (w *world) visit(dice *rand.Rand) {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: dice.IntN(3) == 0}
	defer transport.CloseIdleConnections()
	for range 1 + dice.IntN(20) {
		w.ask(transport, w.fleet.any(dice), w.randomRequest(dice))
		<-time.After(upTo(dice, 30*time.Millisecond))
	}
}

// randomRequest returns a request with random properties.
func (w *world) randomRequest(dice *rand.Rand) *request {
	r := w.newRequest(w.portals[dice.IntN(len(w.portals))])
	r.method = []string{"GET", "GET", "POST", "PUT", "PATCH", "DELETE"}[dice.IntN(6)]
	if r.write() && r.method != "DELETE" {
		size := []int{0, 100, 10_000, retryBodyLimit, 4 * retryBodyLimit}[dice.IntN(5)]
		r.body = bytes.Repeat([]byte(r.id+" "), size/len(r.id)+1)[:size]
		r.chunked = dice.IntN(2) == 0
	}
	switch n := dice.IntN(100); {
	case n < 4:
		r.target, r.expects = "/fake/reset", "502 UPSTREAM_UNREACHABLE"
	case n < 6 && !r.write():
		r.target, r.expects = "/fake/break?bytes=5000", broken
	case n < 12 && !r.write():
		r.target, r.slowly = "/fake/download?bytes="+strconv.Itoa(downloadSize), true
	case n < 18:
		r.leaves = 1 + upTo(dice, 5*time.Millisecond)
	}
	w.present(r, dice)
	return r
}

const downloadSize = 200_000

// newRequest returns a GET for the portal that expects 200.
func (w *world) newRequest(p *portal) *request {
	id := strconv.FormatInt(w.lastID.Add(1), 10)
	header := http.Header{"X-Soak-Id": {id}, "X-Hubspot-Auth-Proxy-Debug": {"1"}, "X-Hubspot-Portal-Id": {p.id}}
	return &request{id: id, portal: p, method: "GET", target: "/crm/v3/objects/contacts?after=" + id, header: header, expects: ok}
}

// present chooses the client that sends the request, and how the request names its
// portal. The portal may change to one that the client may use, or to one that it may
// not use.
func (w *world) present(r *request, dice *rand.Rand) {
	key, named := clientCanary+"-credential", true
	switch n := dice.IntN(100); {
	case n < 2:
		key, r.expects = wire.KeyPrefix+clientCanary+"-unknown", "401 CLIENT_UNAUTHENTICATED"
	case n < 60:
		c := w.callers[dice.IntN(len(w.callers))]
		key, named = c.key, len(c.portals) > 1 || dice.IntN(2) == 0
		if n < 4 && len(c.portals) < len(w.portals) {
			// Only clients with all portals may use the last portal.
			r.portal, named, r.expects = w.portals[len(w.portals)-1], true, "403 CLIENT_FORBIDDEN"
		} else {
			r.portal = c.portals[dice.IntN(len(c.portals))]
		}
	}
	r.header.Del("X-Hubspot-Portal-Id")
	switch {
	case !named:
	case dice.IntN(2) == 0:
		r.header.Set("X-Hubspot-Portal-Id", r.portal.id)
	default:
		r.target = "/portals/" + r.portal.id + r.target
	}
	if dice.IntN(2) == 0 {
		r.header.Set("Authorization", "Bearer "+key)
		return
	}
	separator := "?"
	if bytes.ContainsRune([]byte(r.target), '?') {
		separator = "&"
	}
	r.target += separator + "hapikey=" + key
}

// ask sends the request to the member, lets the judge check the answer, and returns it.
func (w *world) ask(transport http.RoundTripper, m *member, r *request) answer {
	w.judge.expect(r)
	began := time.Now()
	a := exchange(transport, m, r)
	w.judge.answered(r, a, began)
	return a
}

// answer is what a client got for a request.
type answer struct {
	kind     string
	header   http.Header      // nil means that there was no answer
	echo     hubspottest.Echo // zero unless HubSpot answered 200
	problem  string           // what is wrong with the answer's contents
	category string           // the category of HubSpot's error
}

func exchange(transport http.RoundTripper, m *member, r *request) answer {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	if r.leaves > 0 {
		defer time.AfterFunc(r.leaves, leave).Stop()
	}
	var body io.Reader
	if len(r.body) > 0 {
		body = bytes.NewReader(r.body)
		if r.chunked {
			body = io.MultiReader(body)
		}
	}
	q, err := http.NewRequestWithContext(ctx, r.method, "http://"+m.addr+r.target, body)
	if err != nil {
		panic(err)
	}
	q.Header = r.header
	response, err := transport.RoundTrip(q)
	if err != nil {
		return failure(ctx, m, r, err)
	}
	defer response.Body.Close()
	a := answer{header: response.Header}
	text, err := io.ReadAll(slowReader{response.Body, r.slowly})
	if err != nil {
		a.kind = broken
		if ctx.Err() != nil {
			a.kind = left
		}
		return a
	}
	a.read(r, response.StatusCode, text)
	return a
}

// failure returns the reason for which there is no answer.
func failure(ctx context.Context, m *member, r *request, err error) answer {
	switch {
	case ctx.Err() != nil:
		return answer{kind: left}
	case m.stopping.Load():
		return answer{kind: stopped}
	case len(r.body) > 0 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return answer{kind: reset}
	}
	return answer{kind: "no answer", problem: err.Error()}
}

// read fills in the answer from its status and complete body, and checks its contents.
func (a *answer) read(r *request, status int, text []byte) {
	a.kind = strconv.Itoa(status)
	switch category := a.header.Get("X-Hubspot-Auth-Proxy-Error"); {
	case category != "":
		a.kind += " " + category
		return
	case status != http.StatusOK:
		a.kind += " of HubSpot"
		if bytes.Contains(text, []byte("EXPIRED_AUTHENTICATION")) {
			a.category = "EXPIRED_AUTHENTICATION"
		}
		return
	}
	if r.slowly {
		if len(text) != downloadSize || text[downloadSize-1] != (downloadSize-1)%251 {
			a.problem = "the download has other contents"
		}
		return
	}
	var err error
	if a.echo, err = hubspottest.DecodeEcho(bytes.NewReader(text)); err != nil {
		a.problem = err.Error()
		return
	}
	sum := sha256.Sum256(r.body)
	switch e := a.echo; {
	case e.Portal != r.portal.id || e.Credential != string(r.portal.kind):
		a.problem = fmt.Sprintf("sent as portal %s with %s", e.Portal, e.Credential)
	case e.Header.Get("X-Soak-Id") != r.id || e.Method != r.method:
		a.problem = "an answer to another request"
	case e.BodySHA256 != hex.EncodeToString(sum[:]):
		a.problem = fmt.Sprintf("another body: %d bytes of %d", e.BodyBytes, len(r.body))
	}
}

// slowReader reads at most 16 KiB every 2 ms if slow is set.
type slowReader struct {
	io.Reader
	slow bool
}

func (s slowReader) Read(p []byte) (int, error) {
	if s.slow {
		<-time.After(2 * time.Millisecond)
		p = p[:min(len(p), 16<<10)]
	}
	return s.Reader.Read(p)
}
