package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestATokenThatEndsEarlyIsReplacedUnseen(t *testing.T) {
	kills := map[string]func(*hubspottest.Server, string){
		"expired": (*hubspottest.Server).Expire,
		"revoked": (*hubspottest.Server).Revoke,
	}
	for name, kill := range kills {
		t.Run(name, func(t *testing.T) {
			r, _ := startOAuth(t, setup{})
			kill(r.hub, portalID)
			r.call("GET", "/crm", nil).want(t, 200, "2")
			r.call("GET", "/crm", nil).want(t, 200, "1")
			if calls := r.hub.TokenCalls(portalID); calls != 2 {
				t.Errorf("%d calls of the token endpoint, want 2", calls)
			}
			noSecret(t, "the log", r.logs.String())
		})
	}
}

func TestARevokedTokenIsRenewedOnceForAHundredRequests(t *testing.T) {
	r, _ := startOAuth(t, setup{})
	r.hub.SetToken(hubspottest.TokenBehaviour{Latency: 50 * time.Millisecond, Rotate: true})
	r.hub.Revoke(portalID)
	together(t, 100, 100, func(int) error {
		answer, err := r.exchange(r.request("GET", "/crm", nil))
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d: %s", answer.StatusCode, answer.body)
		}
		return err
	})
	if calls := r.hub.TokenCalls(portalID); calls != 2 {
		t.Errorf("%d calls of the token endpoint, want 2", calls)
	}
}

// Some 401s no renewal cures. They must not make a caller hammer the token
// endpoint, and the caller needs what HubSpot says.
func TestA401ForEverythingCostsOneRenewalAndIsHubSpotsOwn(t *testing.T) {
	r, _ := startOAuth(t, setup{})
	r.hub.RejectAll(portalID, true)
	const correlation = "X-Hubspot-Correlation-Id"
	direct, err := r.client.Get(r.hub.URL + "/crm")
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Body.Close()
	model, _ := io.ReadAll(direct.Body)
	together(t, 1000, 20, func(int) error {
		answer, err := r.exchange(r.request("GET", "/crm", nil))
		if err != nil {
			return err
		}
		want := strings.ReplaceAll(string(model), direct.Header.Get(correlation), answer.Header.Get(correlation))
		if answer.StatusCode != http.StatusUnauthorized || string(answer.body) != want {
			return fmt.Errorf("status %d: %s, want %s", answer.StatusCode, answer.body, want)
		}
		return nil
	})
	if calls := r.hub.TokenCalls(portalID); calls > 2 {
		t.Errorf("%d calls of the token endpoint, want one for the first token and one renewal", calls)
	}
}

func TestAGzipped401IsUnderstoodAndReturnedAsItCame(t *testing.T) {
	r := start(t, setup{})
	r.connect(portalID)
	r.hub.SetGzip401(true)
	r.call("GET", "/", nil).want(t, 200, "1")
	// The token is new: only a category that was read lets it be renewed.
	r.hub.Expire(portalID)
	r.call("GET", "/crm", nil, "Accept-Encoding", "gzip").want(t, 200, "2")
	r.hub.Revoke(portalID)
	answer := r.call("GET", "/crm", nil, "Accept-Encoding", "gzip")
	answer.want(t, 401, "1")
	if got := answer.Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("Content-Encoding is %q", got)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(answer.body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Category string }
	if err := json.Unmarshal(plain, &content); err != nil || content.Category != "INVALID_AUTHENTICATION" {
		t.Errorf("%v: %s", err, plain)
	}
	// As the fake HubSpot has made it.
	var again bytes.Buffer
	zipped := gzip.NewWriter(&again)
	_, _ = zipped.Write(plain)
	_ = zipped.Close()
	if !bytes.Equal(answer.body, again.Bytes()) {
		t.Error("not the bytes that HubSpot sent")
	}
}

// rejecting answers 401 with that body.
func rejecting(body []byte, header http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write(body)
	}
}

func TestIfRenewingFailsThe401IsReturnedByteForByte(t *testing.T) {
	expired := `{ "category" : "EXPIRED_AUTHENTICATION", "padding":"`
	bodies := map[string][]byte{
		"empty":          nil,
		"short":          []byte(expired + `ü"}` + "\r\n"),
		"not JSON":       []byte("<html>\xff\x00"),
		"64 KiB":         []byte(expired + strings.Repeat("x", 64<<10-len(expired)-2) + `"}`),
		"64 KiB and one": []byte(expired + strings.Repeat("x", 64<<10-len(expired)-1) + `"}`),
		"300 KB":         []byte(expired + strings.Repeat("x", 300_000) + `"}`),
	}
	headers := map[string]http.Header{
		"length":  {"X-Hubspot-Auth-Failure": {"401 Unauthorized"}, "Www-Authenticate": {"a", "b"}, "Content-Type": {"application/json;charset=utf-8"}},
		"chunked": {"Content-Type": {"text/odd"}, "Transfer-Encoding": {"chunked"}},
		"no gzip": {"Content-Type": {"text/odd"}, "Content-Encoding": {"gzip"}},
	}
	for kind, header := range headers {
		for name, body := range bodies {
			t.Run(kind+" "+name, func(t *testing.T) {
				set, _ := upstream(t, rejecting(body, header))
				r := start(t, setup{proxy: set})
				r.connect(portalID)
				r.call("GET", "/", nil)
				r.hub.SetToken(hubspottest.TokenBehaviour{Status: 500})
				answer := r.call("GET", "/", nil)
				answer.want(t, 401, "1")
				if !bytes.Equal(answer.body, body) {
					t.Errorf("%d bytes came, not the %d that HubSpot sent", len(answer.body), len(body))
				}
				for name, values := range header {
					if got := answer.Header[name]; name != "Transfer-Encoding" && strings.Join(got, "|") != strings.Join(values, "|") {
						t.Errorf("%s is %q, want %q", name, got, values)
					}
				}
			})
		}
	}
}

func TestASecond401IsReturnedAsItCame(t *testing.T) {
	var requests atomic.Int64
	set, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		n := requests.Add(1)
		w.Header().Set("X-Number", fmt.Sprint(n))
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"category":"EXPIRED_AUTHENTICATION","number":%d}`, n)
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	answer := r.call("GET", "/", nil)
	answer.want(t, 401, "2")
	if string(answer.body) != `{"category":"EXPIRED_AUTHENTICATION","number":2}` || answer.Header.Get("X-Number") != "2" {
		t.Errorf("answer %s of number %s", answer.body, answer.Header.Get("X-Number"))
	}
}

// deaf is a Redis whose events do not arrive, and which counts how often a
// record is read.
type deaf struct {
	redis.UniversalClient
	reads *atomic.Int64
}

func (d deaf) Subscribe(ctx context.Context, _ ...string) *redis.PubSub {
	return d.UniversalClient.Subscribe(ctx, "another channel")
}

func (d deaf) HGetAll(ctx context.Context, key string) *redis.MapStringStringCmd {
	d.reads.Add(1)
	return d.UniversalClient.HGetAll(ctx, key)
}

// startStatic starts a rig that hears of no change, with a static credential
// that has served.
func startStatic(t testing.TB, kind tokens.Kind) (r *rig, c *clock, reads *atomic.Int64) {
	t.Helper()
	client, end := store.Embedded()
	t.Cleanup(end)
	c, reads = new(clock), new(atomic.Int64)
	r = start(t, setup{redis: deaf{client, reads}, source: func(o *tokens.Options) { o.Now = c.now }})
	// The settings are changed by another process.
	hearing := r.source
	r.startSource(setup{redis: client})
	r.seeder, r.source = r.source, hearing
	r.replaceStatic(kind, hubspottest.Canary+"-first")
	r.call("GET", "/", nil).want(t, 200, "1")
	return r, c, reads
}

// replaceStatic gives the portal another static credential, at HubSpot and in
// the settings.
func (r *rig) replaceStatic(kind tokens.Kind, value string) {
	r.t.Helper()
	if kind == tokens.APIKey {
		r.hub.SetAPIKey(portalID, value)
	} else {
		r.hub.SetAccessToken(portalID, value)
	}
	r.seed(portalID, kind, value)
}

func TestAStaticCredentialThatWasReplacedIsReadAgainAfterA401(t *testing.T) {
	for _, kind := range []tokens.Kind{tokens.AccessToken, tokens.APIKey} {
		t.Run(string(kind), func(t *testing.T) {
			r, _, _ := startStatic(t, kind)
			r.replaceStatic(kind, hubspottest.Canary+"-second")
			r.call("GET", "/crm?a=1", nil).want(t, 200, "2")
			r.call("GET", "/crm", nil).want(t, 200, "1")
			if v := r.hub.Violations(); len(v) > 0 {
				t.Error(v)
			}
			if calls := r.hub.TokenCallsTotal(); calls != 0 {
				t.Errorf("%d calls of the token endpoint", calls)
			}
		})
	}
}

func TestAStaticCredentialIsReadAgainOnceASecondAtMost(t *testing.T) {
	r, c, reads := startStatic(t, tokens.AccessToken)
	r.hub.RejectAll(portalID, true)
	began, before := time.Now(), reads.Load()
	for range 50 {
		r.call("GET", "/", nil).want(t, 401, "1")
	}
	// Once more before it is stored that HubSpot rejects the credential, and once for
	// the hint about that, which comes late at times.
	const noted = 2
	if n := reads.Load() - before; n < 1 || n > 1+noted+int64(time.Since(began)/time.Second) {
		t.Errorf("read %d times within %s", n, time.Since(began))
	}
	before = reads.Load()
	c.forward(time.Second)
	r.call("GET", "/", nil).want(t, 401, "1")
	if n := reads.Load() - before; n < 1 || n > 1+noted {
		t.Errorf("read %d times after a second", n)
	}
}

func TestA401OfHubSpotsTokenServiceIsPassedOn(t *testing.T) {
	set, _ := upstream(t, rejecting([]byte(`{"category":"EXPIRED_AUTHENTICATION"}`), nil))
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	for _, path := range []string{"/oauth/v1/token", "/oauth/v1/access-tokens/abc"} {
		r.call("POST", path, strings.NewReader("a=b")).want(t, 401, "1")
	}
	if calls := r.hub.TokenCallsTotal(); calls != 0 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
}

func TestTheConnectionOfA401IsUsedAgain(t *testing.T) {
	var requests atomic.Int64
	set, connections := upstream(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		if requests.Add(1)%2 == 0 {
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"category":"EXPIRED_AUTHENTICATION","padding":"`+strings.Repeat("x", 50_000)+`"}`)
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	for range 10 {
		r.call("POST", "/", strings.NewReader("body")).want(t, 200, "2")
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// The client's own going away is no reason to send anything again.
func TestAClientThatLeavesDuringTheRenewalCausesNoSecondTry(t *testing.T) {
	r, _ := startOAuth(t, setup{})
	r.hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
	r.hub.Expire(portalID)
	before := r.hub.Requests()
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := r.exchange(r.request("POST", "/crm", strings.NewReader("body")).WithContext(ctx))
		gone <- err
	}()
	within(t, r.hub, func() bool { return r.hub.TokenCalls(portalID) == 2 })
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	testkit.Eventually(t, "the end in the log", func() bool { return strings.Contains(r.logs.String(), `"status":499`) })
	r.hub.SetToken(hubspottest.TokenBehaviour{})
	r.call("GET", "/crm", nil) // with the token that nobody waited for
	if n := r.hub.Requests() - before; n > 3 {
		t.Errorf("HubSpot has received %d requests", n)
	}
}
