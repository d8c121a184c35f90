package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// BenchmarkStep is what each step of a request's way takes.
func BenchmarkStep(b *testing.B) {
	key := clients.NewKey()
	known := knownClients{clients.Hash(key): {Name: "billing", Portals: []string{"62515"}}}
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	upstream := &url.URL{Scheme: "https", Host: "api.hubapi.com"}
	p := New(Options{Upstream: upstream, Clients: known, AccessLog: true, Log: log})
	credential := tokens.Static("62515", tokens.AccessToken, secret.New("pat-na1-00000000-0000-0000-0000-000000000000"))
	request := func(target string) *call {
		r := httptest.NewRequest("GET", target, nil)
		r.Header = http.Header{
			"Accept": {"application/json"}, "Authorization": {"Bearer " + key.Reveal()}, "Content-Type": {"application/json"},
			"User-Agent": {"hubspot-api-client-nodejs; 14.0.1"}, "Accept-Encoding": {"gzip,deflate"},
		}
		c := &call{request: r, began: time.Now(), used: []*tokens.Credential{credential}}
		c.target, _ = wire.ParseTarget(target)
		return c
	}
	const plain, stripped = "/crm/v3/objects/contacts?limit=100&archived=false", "/portals/62515/crm/v3/objects/contacts?limit=100&hapikey=x&archived=false"
	steps := map[string]func() func(){
		"parse the target": func() func() { return func() { _, _ = wire.ParseTarget(plain) } },
		"find the client by its key": func() func() {
			c := request(plain)
			return func() { p.gate.identify(c.request, &c.admission) }
		},
		"route by prefix": func() func() {
			c := request(stripped)
			target := c.target
			return func() { c.target = target; p.gate.route(c.request, &c.admission) }
		},
		"strip a query that has nothing": func() func() {
			c := request(plain)
			return func() { c.target.Strip() }
		},
		"strip a query": func() func() {
			c := request(stripped)
			target := c.target
			return func() { c.target = target; c.target.Strip() }
		},
		"strip the header, and attach a token": func() func() {
			c := request(plain)
			return func() {
				header := c.request.Header.Clone() // as ReverseProxy does
				wire.ForwardHeader(header, c.request.Header, c.clientKey())
				attach(&http.Request{Header: header, URL: upstream}, credential)
			}
		},
		"take credentials out of the header of an answer": func() func() {
			c := request(plain)
			header := http.Header{"Content-Type": {"application/json"}, "X-Hubspot-Correlation-Id": {"5f2d3c4b-1a09-4e8f-9d7c-6b5a49382716"}}
			return func() { c.conceal(header) }
		},
		"write a line of the access log": func() func() {
			o := outcomeOf(request(plain), answered(), time.Now())
			return func() { p.recorder.access.Info("request", zap.Inline(line{o})) }
		},
		"count": func() func() {
			o := outcomeOf(request(plain), answered(), time.Now())
			return func() { p.recorder.metrics.count(o) }
		},
		"see who calls, and the limit": func() func() {
			l, header := activity.New(nil), answered().Header()
			header.Set("X-Hubspot-Ratelimit-Remaining", "99")
			o := outcomeOf(request(plain), answered(), time.Now())
			return func() { l.Add(o.activity(header)) }
		},
	}
	for name, prepare := range steps {
		b.Run(name, func(b *testing.B) {
			step := prepare()
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}

// answered returns the reply to a client that has got HubSpot's answer.
func answered() *reply {
	a := &reply{ResponseWriter: httptest.NewRecorder(), status: 200, finished: true}
	a.Header().Set("X-Hubspot-Correlation-Id", "5f2d3c4b-1a09-4e8f-9d7c-6b5a49382716")
	return a
}

// knownClients are clients by the hash of their key.
type knownClients map[string]*clients.Client

func (knownClients) Expired(secret.Text) bool { return false }

func (knownClients) Loaded() bool { return true }

func (k knownClients) Find(key secret.Text) *clients.Client { return k[clients.Hash(key)] }
