package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// sealKey returns a new sealing key with that id.
func sealKey(t *testing.T, id string) secret.Text {
	t.Helper()
	key, err := seal.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A load is clients that call the processes in turn, for all portals, and send no request twice.
type load struct {
	portals []string
	client  http.Client
	end     context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex
	bases   []string
	done    int
	perBase map[string]int
	failed  []string
}

func newLoad(t *testing.T, portals ...string) *load {
	l := &load{portals: portals, perBase: make(map[string]int)}
	// On a reused connection that turns out to be closed, net/http sends a request again.
	l.client.Transport = &http.Transport{DisableKeepAlives: true}
	l.client.Timeout = 15 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	l.end = func() {
		cancel()
		l.work.Wait()
	}
	t.Cleanup(l.end)
	for worker := range 4 {
		l.work.Go(func() {
			for i := worker; ctx.Err() == nil; i++ {
				l.request(i)
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	return l
}

// to sets the processes that further requests are sent to.
func (l *load) to(processes ...*process) {
	var bases []string
	for _, p := range processes {
		bases = append(bases, "http://"+p.address())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bases = bases
}

func (l *load) request(i int) {
	l.mu.Lock()
	bases := l.bases
	l.mu.Unlock()
	if len(bases) == 0 {
		return
	}
	base, portal := bases[i%len(bases)], l.portals[i/len(bases)%len(l.portals)]
	err := l.fetch(base+"/portals/"+portal+"/crm/v3/objects/contacts", portal)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	l.perBase[base]++
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("%s portal %s of %s: %v", time.Now().Format(time.TimeOnly), portal, base, err))
	}
}

func (l *load) fetch(url, portal string) error {
	response, err := l.client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	echo, err := hubspottest.DecodeEcho(strings.NewReader(string(body)))
	if response.StatusCode != http.StatusOK || err != nil || echo.Portal != portal {
		return fmt.Errorf("status %d, portal %q: %.300s", response.StatusCode, echo.Portal, body)
	}
	return nil
}

// served returns how many requests the process has answered.
func (l *load) served(p *process) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.perBase["http://"+p.address()]
}

// A rotation is a sequence of ENCRYPTION_KEYS.
type rotation struct {
	name  string
	steps [][]secret.Text

	// together is the number of renewals while processes of two steps serve at the same time.
	together int
}

func TestKeysAreRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	a, b, plain := sealKey(t, "a"), sealKey(t, "b"), secret.New("plain")
	for _, tt := range []rotation{
		// An update of many replicas, which takes longer than the lifetime of a token: no
		// process may seal with a key that others do not have yet.
		{"each step beside the last", [][]secret.Text{{a}, {a, b}, {b, a}, {b}}, 2},
		// The new processes take over at once.
		{"at once", [][]secret.Text{{a}, {b, a}, {b}}, 0},
		// The first key, when nothing is sealed yet.
		{"the first key", [][]secret.Text{{}, {plain, b}, {b, plain}, {b}}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.hub.SetToken(hubspottest.TokenBehaviour{Life: life, Rotate: true})
			s.hub.SetAccessToken("2", staticToken)
			s.hub.SetAPIKey("3", "key-"+hubspottest.Canary)
			first := s.source(tt.steps[0]...)
			for _, seed := range []tokens.Seed{
				{Portal: "1", Kind: tokens.OAuth, Secret: secret.New(s.hub.Connect("1"))},
				{Portal: "2", Kind: tokens.AccessToken, Secret: secret.New(staticToken)},
				{Portal: "3", Kind: tokens.APIKey, Secret: secret.New("key-" + hubspottest.Canary)},
				{Portal: "4", Kind: tokens.OAuth, Secret: secret.New(s.hub.Connect("4"))}, // no client calls this portal
			} {
				if err := first.Set(t.Context(), seed, "test"); err != nil {
					t.Fatal(err)
				}
			}
			s.rotate(tt, newLoad(t, "1", "2", "3"))
			s.wantSealed("b") // the only key of the last step
		})
	}
}

// rotate runs the steps of a rotation under load.
func (s *stage) rotate(r rotation, l *load) {
	t := s.t
	var before, all []*process
	for i, keys := range r.steps {
		var list []string
		for _, key := range keys {
			list = append(list, key.Reveal())
		}
		settings := []string{"ENCRYPTION_KEYS=" + strings.Join(list, ","), "SHUTDOWN_DELAY=500ms", "LOG_LEVEL=debug"}
		generation := []*process{s.launch(settings...), s.launch(settings...)}
		all = append(all, generation...)
		if r.together > 0 {
			l.to(append(slices.Clone(before), generation...)...)
			s.awaitRenewals(r.together)
		} else {
			l.to(generation...)
		}
		for _, p := range before {
			p.terminate()
		}
		l.to(generation...)
		for _, p := range before {
			if status := p.exit(); status != 0 {
				t.Errorf("step %d: exit status %d", i, status)
			}
		}
		s.awaitRenewals(1)
		testkit.Eventually(t, "the new processes serve", func() bool { return min(l.served(generation[0]), l.served(generation[1])) > 20 })
		if i == len(r.steps)-2 {
			s.reseal(keys...)
		}
		before = generation
	}
	l.end()
	t.Logf("%d requests", l.done)
	if len(l.failed) > 0 {
		t.Errorf("of %d requests %d failed:\n%s", l.done, len(l.failed), strings.Join(l.failed[:min(len(l.failed), 10)], "\n"))
	}
	for _, p := range all {
		printed := p.stdout.String() + p.stderr.String()
		wantNoSecret(t, printed)
		for _, key := range slices.Concat(r.steps...) {
			if _, bytes, isKey := strings.Cut(key.Reveal(), ":"); isKey && strings.Contains(printed, bytes) {
				t.Errorf("a sealing key is printed")
			}
		}
	}
	if calls := s.hub.Unauthorized(); calls > 0 {
		t.Errorf("%d requests came to HubSpot with a dead token", calls)
	}
}

// awaitRenewals waits for n more renewals of the token in use.
func (s *stage) awaitRenewals(n int) {
	s.t.Helper()
	before := s.hub.TokenCalls("1")
	testkit.Eventually(s.t, "renewals", func() bool { return s.hub.TokenCalls("1") >= before+n })
}

// reseal seals all records again, as keys rotate does.
func (s *stage) reseal(keys ...secret.Text) {
	s.t.Helper()
	source := s.source(keys...)
	ids, err := source.Portals(s.t.Context())
	if err != nil || len(ids) != 4 {
		s.t.Fatalf("portals %v, %v", ids, err)
	}
	for _, id := range ids {
		if _, err := source.Reseal(s.t.Context(), id, "test"); err != nil {
			s.t.Errorf("reseal portal %s: %v", id, err)
		}
	}
	for _, id := range ids {
		if again, err := source.Reseal(s.t.Context(), id, "test"); again || err != nil {
			s.t.Errorf("reseal portal %s again: %v, %v", id, again, err)
		}
	}
}

// wantSealed checks that all secrets in Redis are sealed with the key.
func (s *stage) wantSealed(key string) {
	t := s.t
	t.Helper()
	rdb := s.redis.Client(t)
	sealed := 0
	for _, name := range rdb.Keys(t.Context(), "*").Val() {
		var values map[string]string
		if rdb.Type(t.Context(), name).Val() == "hash" {
			values = rdb.HGetAll(t.Context(), name).Val()
		} else {
			values = map[string]string{"": rdb.Get(t.Context(), name).Val()}
		}
		for field, value := range values {
			if strings.Contains(value, hubspottest.Canary) {
				t.Errorf("%s %s is stored as it is", name, field)
			}
			if strings.HasPrefix(value, "sealed:") {
				sealed++
				if !strings.HasPrefix(value, "sealed:"+key+":") {
					t.Errorf("%s %s is not sealed with key %s: %.12s", name, field, key, value)
				}
			}
		}
	}
	if sealed != 5 { // refresh and access token of 1, those of 2 and 3, the refresh token of 4
		t.Errorf("%d values are sealed, 5 are due", sealed)
	}
}

func TestARecordOfAnotherPortalIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	key := sealKey(t, "k1")
	source := s.source(key)
	s.hub.SetAccessToken("2", staticToken)
	for _, seed := range []tokens.Seed{
		{Portal: "1", Kind: tokens.OAuth, Secret: secret.New(s.hub.Connect("1"))},
		{Portal: "2", Kind: tokens.AccessToken, Secret: secret.New(staticToken)},
	} {
		if err := source.Set(t.Context(), seed, "test"); err != nil {
			t.Fatal(err)
		}
	}
	p := s.launch("ENCRYPTION_KEYS="+key.Reveal(), "LOG_LEVEL=debug")
	for _, portal := range []string{"1", "2"} {
		if r := p.portal(portal, ""); !r.served(portal) {
			t.Fatal(r)
		}
	}
	rdb := s.redis.Client(t)
	for to, from := range map[string]string{"71": "1", "72": "2"} {
		if n := rdb.Copy(t.Context(), "hubspot:portal:{"+from+"}", "hubspot:portal:{"+to+"}", 0, false).Val(); n != 1 {
			t.Fatal("the record is not copied")
		}
		if r := p.portal(to, ""); r.status != http.StatusServiceUnavailable || r.category != "CREDENTIAL_UNAVAILABLE" {
			t.Errorf("portal %s: %v", to, r)
		}
		p.until(`"portal":"` + to + `","error":"[^\n]*of portal ` + to + ` is sealed with key \\"k1\\"`)
	}
	for _, portal := range []string{"1", "2"} {
		if r := p.portal(portal, ""); !r.served(portal) {
			t.Errorf("portal %s, afterwards: %v", portal, r)
		}
	}
	// A record that is sealed with a key that the process does not have.
	other := sealKey(t, "k2")
	if err := s.source(other).Set(t.Context(), tokens.Seed{Portal: "73", Kind: tokens.AccessToken, Secret: secret.New(staticToken)}, "test"); err != nil {
		t.Fatal(err)
	}
	if r := p.portal("73", ""); r.status != http.StatusServiceUnavailable {
		t.Errorf("portal 73: %v", r)
	}
	p.until(`portal 73 is sealed with key \\"k2\\", which is not among ENCRYPTION_KEYS`)
	wantNoSecret(t, p.end())
}
