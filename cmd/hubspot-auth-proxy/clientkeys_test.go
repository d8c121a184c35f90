package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// keyed runs a proxy for portals 1 and 2 that requires a client key.
func (s *stage) keyed(settings ...string) *process {
	s.t.Helper()
	s.hub.SetAccessToken("1", staticToken+"-1")
	s.hub.SetAccessToken("2", staticToken+"-2")
	m := newMount(s.t, fmt.Sprintf("portals:\n- {id: 1, access_token: %[1]s-1}\n- {id: 2, access_token: %[1]s-2}\n", staticToken))
	return s.launch(append([]string{"SEED_FILE=" + m.path(), "ALLOW_ANONYMOUS=false"}, settings...)...)
}

// add adds a client as the command does, and returns its key.
func (s *stage) add(name string, readOnly bool, portals ...string) string {
	s.t.Helper()
	key := clients.NewKey()
	err := s.clients().Add(s.t.Context(), clients.Client{Name: name, KeySHA256: clients.Hash(key), Portals: portals, ReadOnly: readOnly})
	if err != nil {
		s.t.Fatal(err)
	}
	return key.Reveal()
}

func TestAClientKeyAllowsOnlyItsRights(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	one, both, all := s.add("one", false, "1"), s.add("both", false, "1", "2"), s.add("all", false, "*")
	reader := s.add("reader", true, "1")
	p := s.keyed("LOG_LEVEL=debug")
	const contacts = "/crm/v3/objects/contacts"
	wrong := clients.NewKey().Reveal()
	for _, tt := range []struct {
		name, method, path, key string
		status                  int
		category, portal        string
	}{
		{"its only portal", "GET", contacts, one, 200, "", "1"},
		{"named", "POST", "/portals/1" + contacts, one, 200, "", "1"},
		{"another portal", "GET", "/portals/2" + contacts, one, 403, "CLIENT_FORBIDDEN", ""},
		{"one that is not connected", "GET", "/portals/3" + contacts, one, 403, "CLIENT_FORBIDDEN", ""},
		{"one of two, none named", "GET", contacts, both, 400, "PORTAL_REQUIRED", ""},
		{"one of two", "GET", "/portals/2" + contacts, both, 200, "", "2"},
		{"all, none named", "GET", contacts, all, 400, "PORTAL_REQUIRED", ""},
		{"all", "DELETE", "/portals/2" + contacts + "/7", all, 200, "", "2"},
		{"all, not connected", "GET", "/portals/3" + contacts, all, 403, "PORTAL_NOT_CONNECTED", ""},
		{"reads", "GET", contacts, reader, 200, "", "1"},
		{"searches", "POST", contacts + "/search", reader, 200, "", "1"},
		{"writes", "POST", contacts, reader, 403, "CLIENT_FORBIDDEN", ""},
		{"deletes", "DELETE", contacts + "/7", reader, 403, "CLIENT_FORBIDDEN", ""},
		{"hapikey", "GET", contacts + "?limit=1&hapikey=" + one, "", 200, "", "1"},
		{"hapikey twice the same", "GET", contacts + "?hapi%6bey=" + one + "&hapikey=" + one, one, 200, "", "1"},
		{"hapikey, another", "GET", contacts + "?hapikey=" + both, one, 401, "CLIENT_UNAUTHENTICATED", ""},
		{"wrong hapikey", "GET", contacts + "?hapikey=" + wrong, "", 401, "CLIENT_UNAUTHENTICATED", ""},
		{"wrong", "GET", contacts, wrong, 401, "CLIENT_UNAUTHENTICATED", ""},
		{"none", "GET", "/portals/1" + contacts, "", 401, "CLIENT_UNAUTHENTICATED", ""},
		{"a prefix of one", "GET", contacts, one[:len(one)-1], 401, "CLIENT_UNAUTHENTICATED", ""},
		{"the hash of one", "GET", contacts, clients.Hash(secret.New(one)), 401, "CLIENT_UNAUTHENTICATED", ""},
	} {
		r := p.call(tt.method, tt.path, tt.key)
		if r.status != tt.status || r.category != tt.category || r.echo.Portal != tt.portal {
			t.Errorf("%s: %v", tt.name, r)
		}
		if strings.Contains(r.body, wire.KeyPrefix+"_") || strings.Contains(r.body, one) || strings.Contains(r.body, wrong) {
			t.Errorf("%s: a key came to HubSpot, or back: %s", tt.name, r.body)
		}
	}
	printed := p.end()
	if !strings.Contains(printed, `"client":"reader"`) {
		t.Errorf("the log does not tell who called:\n%s", printed)
	}
	wantNoSecret(t, printed)
}

func TestAClientIsAddedAndRemovedEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := s.keyed(), s.keyed()
	a.address()
	b.address()
	key := s.add("billing", false, "1")
	// Much sooner than the minute after which each process reads the clients again.
	for _, p := range []*process{a, b} {
		testkit.Eventually(t, "the client is let in", func() bool { return p.call("GET", "/x", key).served("1") })
	}
	// A new key under the same name replaces the first.
	next := s.add("billing", false, "2")
	for _, p := range []*process{a, b} {
		testkit.Eventually(t, "the new key is let in", func() bool { return p.call("GET", "/x", next).served("2") })
		if r := p.call("GET", "/x", key); r.status != 401 {
			t.Errorf("the replaced key: %v", r)
		}
	}
	if err := s.clients().Remove(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{a, b} {
		testkit.Eventually(t, "the client's key is refused", func() bool { return p.call("GET", "/x", next).status == 401 })
		printed := p.end()
		wantNoSecret(t, printed)
		if strings.Contains(printed, clients.Hash(secret.New(key))) {
			t.Errorf("a key's hash is printed:\n%s", printed)
		}
	}
}

func TestGuessedKeysCauseNoCommandsToRedis(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	key := s.add("one", false, "1")
	p := s.keyed("ACCESS_LOG=false")
	if r := p.call("GET", "/x", key); !r.served("1") {
		t.Fatal(r)
	}
	rdb := s.redis.Client(t)
	before := commandsDone(t, rdb)
	const guessers, each = 4, 25_000
	began := time.Now()
	var guessing sync.WaitGroup
	for range guessers {
		guessing.Go(func() {
			if err := guess(p.address(), each); err != nil {
				t.Error(err)
			}
		})
	}
	guessing.Wait()
	elapsed := time.Since(began)
	// The process pings its subscriptions, and sometimes reads the clients again.
	if n := commandsDone(t, rdb) - before; n > 50+2*int64(elapsed.Seconds()) {
		t.Errorf("%d wrong keys cost %d commands of Redis", guessers*each, n)
	}
	if r := p.call("GET", "/x", key); !r.served("1") {
		t.Errorf("afterwards: %v", r)
	}
	if n := s.hub.Requests(); n != 2 {
		t.Errorf("HubSpot got %d requests, 2 are due", n)
	}
	wantNoSecret(t, p.end())
}

// commandsDone returns how many commands Redis has processed.
func commandsDone(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	info, err := rdb.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	number, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// guess sends n requests on one connection, each with a different wrong key.
func guess(address string, n int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
	out, in := bufio.NewWriter(conn), bufio.NewReader(conn)
	const batch = 50 // as many as are under way at once
	for sent := 0; sent < n; sent += batch {
		for range batch {
			fmt.Fprintf(out, "GET /portals/1/crm/v3/objects/contacts HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", address, clients.NewKey().Reveal())
		}
		if err := out.Flush(); err != nil {
			return err
		}
		for i := range batch {
			response, err := http.ReadResponse(in, nil)
			if err != nil {
				return fmt.Errorf("request %d: %w", sent+i, err)
			}
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusUnauthorized {
				return fmt.Errorf("request %d: status %d, %w", sent+i, response.StatusCode, err)
			}
		}
	}
	return nil
}
