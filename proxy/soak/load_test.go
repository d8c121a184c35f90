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

// clientCanary is part of whatever a client presents to the proxy, and must not
// go further.
const clientCanary = "soak-client"

const workers = 8

// caller is a client that has a key.
type caller struct {
	key     string
	portals []*portal
}

// addCallers adds callers that may use one portal, several, and all.
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

// request is what one client is about to do.
type request struct {
	id      string
	portal  *portal
	method  string
	target  string
	header  http.Header
	body    []byte
	chunked bool
	expects string        // the kind of answer, unless a fault strikes
	leaves  time.Duration // after which the client leaves; zero: it stays
	slowly  bool          // reads the answer
}

const (
	ok      = "200"
	broken  = "answer broken off"
	left    = "client left"
	stopped = "proxy was stopping"
	reset   = "reset while the body was sent"
)

func (r *request) write() bool { return r.method != http.MethodGet }

// load lets clients come and go until it is stopped.
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

// visit is a client that comes, asks a few times, and goes.
func (w *world) visit(dice *rand.Rand) {
	way := &http.Transport{DisableCompression: true, DisableKeepAlives: dice.IntN(3) == 0}
	defer way.CloseIdleConnections()
	for range 1 + dice.IntN(20) {
		w.ask(way, w.fleet.any(dice), w.dream(dice))
		<-time.After(upTo(dice, 30*time.Millisecond))
	}
}

// dream makes up a request.
func (w *world) dream(dice *rand.Rand) *request {
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

// newRequest returns a simple one.
func (w *world) newRequest(p *portal) *request {
	id := strconv.FormatInt(w.lastID.Add(1), 10)
	header := http.Header{"X-Soak-Id": {id}, "X-Hubspot-Auth-Proxy-Debug": {"1"}, "X-Hubspot-Portal-Id": {p.id}}
	return &request{id: id, portal: p, method: "GET", target: "/crm/v3/objects/contacts?after=" + id, header: header, expects: ok}
}

// present chooses the caller of the request, and so perhaps another portal, or
// one that the caller has no right to; and how the portal is named.
func (w *world) present(r *request, dice *rand.Rand) {
	key, named := clientCanary+"-credential", true
	switch n := dice.IntN(100); {
	case n < 2:
		key, r.expects = wire.KeyPrefix+clientCanary+"-unknown", "401 CLIENT_UNAUTHENTICATED"
	case n < 60:
		c := w.callers[dice.IntN(len(w.callers))]
		key, named = c.key, len(c.portals) > 1 || dice.IntN(2) == 0
		if n < 4 && len(c.portals) < len(w.portals) {
			// Callers have their portals in order, and the last one is nobody's.
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

// ask sends the request to the member, has the answer judged, and returns it.
func (w *world) ask(way http.RoundTripper, m *member, r *request) answer {
	w.judge.expect(r)
	began := time.Now()
	a := exchange(way, m, r)
	w.judge.answered(r, a, began)
	return a
}

// answer is what a client saw.
type answer struct {
	kind     string
	header   http.Header // nil: there was none
	echo     hubspottest.Echo
	problem  string // with the answer's contents
	category string // of HubSpot's error
}

func exchange(way http.RoundTripper, m *member, r *request) answer {
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
	response, err := way.RoundTrip(q)
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

// failure tells why there is no answer.
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

// read takes in an answer that came whole.
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
			a.problem = "the download is another one"
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

// slowReader reads a bit at a time, if slow.
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
