package soak

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

var struggleFlag = flag.Duration("struggle", time.Minute, "how long processes and Redis have faults")

// quietTime limits the time from the end of all faults until recovery. It includes the
// longest wait between two tries of a process.
const quietTime = 40 * time.Second

// TestNoGrantIsLostAndNoRemovalUndone lets random faults happen to real processes and a
// real Redis, round after round. After each round, every portal that was not removed
// must be served by every process and by a new one, and no removed portal may be.
// HubSpot must never get the credential of another portal.
func TestNoGrantIsLostAndNoRemovalUndone(t *testing.T) {
	lasts, seed := *struggleFlag, *seedFlag
	if testing.Short() {
		t.Skip("a round takes several seconds")
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	if deadline, has := t.Deadline(); has && time.Until(deadline) < lasts+2*quietTime {
		t.Fatalf("go test would end this test after %v; add -timeout 0", time.Until(deadline).Round(time.Minute))
	}
	t.Logf("seed %d", seed)
	s := newStruggle(t, seed)
	rounds := 0
	for end := time.Now().Add(lasts); time.Now().Before(end); rounds++ {
		s.round()
	}
	t.Logf("%d rounds (-seed %d): %s; %d calls, of which %d were served", rounds, seed, list(s.counts), s.calls, s.served)
}

// struggle has the processes, Redis and HubSpot of TestNoGrantIsLostAndNoRemovalUndone,
// and the state that each portal should have.
type struggle struct {
	t         *testing.T
	dice      *rand.Rand
	path      string
	hub       *hubspottest.Server
	servers   [2]*redistest.Server // the first one is the master
	processes []*process
	settings  []string
	removed   map[string]bool // by portal
	counts    map[string]int
	log       []string // the faults of this round
	client    *http.Client

	mu            sync.Mutex
	calls, served int
	load          sync.WaitGroup
}

// process is one process of the program, and its connection to Redis.
type process struct {
	*testkit.Program
	wire    *redistest.Wire
	stopped bool
	cut     bool
}

// grantPortals are the portals of the test. The first grantPortalsOAuth of them are
// OAuth portals.
var grantPortals = []string{"71001", "71002", "71003", "71004", "71005", "71006"}

const grantPortalsOAuth = 4

func newStruggle(t *testing.T, seed uint64) *struggle {
	s := &struggle{
		t: t, dice: rand.New(rand.NewPCG(seed, 13)), path: testkit.Build(t), hub: hubspottest.NewServer(),
		removed: map[string]bool{}, counts: map[string]int{},
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second},
	}
	t.Cleanup(s.hub.Close)
	s.hub.Observe(func(e hubspottest.Echo) {
		if portal := strings.TrimPrefix(e.Target, "/crm/v3/objects/"); portal != e.Target && e.Portal != "" && !strings.HasPrefix(portal, e.Portal+"/") {
			t.Errorf("HubSpot gets portal %s's credential for %s", e.Portal, e.Target)
		}
	})
	s.servers = [2]*redistest.Server{redistest.Start(t), redistest.Start(t)}
	s.settings = []string{
		"UPSTREAM_URL=" + s.hub.URL, "HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"ACCESS_LOG=false", "ALLOW_ANONYMOUS=true",
	}
	for range 3 {
		s.launch()
	}
	for _, portal := range grantPortals {
		s.set(portal)
	}
	return s
}

// launch starts a process that has its own connection to the master.
func (s *struggle) launch() *process {
	wire := s.servers[0].Wire(s.t)
	c := &process{wire: wire, Program: testkit.Launch(s.t, s.path, append(slices.Clone(s.settings), "REDIS_URL="+wire.URL())...)}
	s.processes = append(s.processes, c)
	return c
}

// command runs a command of the program with the master, and repeats it until it
// succeeds. A command fails, for example, if Redis has just lost its data.
func (s *struggle) command(stdin string, args ...string) {
	for deadline := time.Now().Add(quietTime); ; <-time.After(200 * time.Millisecond) {
		command := exec.Command(s.path, args...)
		command.Env = append(slices.Clone(s.settings), "REDIS_URL="+s.servers[0].URL())
		command.Stdin = strings.NewReader(stdin)
		printed, err := command.CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q: %v\n%s; faults of this round: %s", args, err, printed, strings.Join(s.log, "; "))
		}
	}
}

// set gives a portal a new credential, and waits until all connected processes use it,
// because Redis may lose its data: a credential that no process holds is lost then. The
// access tokens of the former grant end, because a process could use them instead.
func (s *struggle) set(portal string) {
	i := slices.Index(grantPortals, portal)
	switch value := fmt.Sprintf("%s-%d-%d", hubspottest.Canary, i, s.dice.Uint64()); {
	case i < grantPortalsOAuth:
		s.command(s.hub.Connect(portal), "portal", "set", portal, "refresh_token")
		s.hub.Expire(portal)
	case i%2 == 0:
		s.hub.SetAccessToken(portal, value)
		s.command(value, "portal", "set", portal, "access_token")
	default:
		s.hub.SetAPIKey(portal, value)
		s.command(value, "portal", "set", portal, "api_key")
	}
	s.removed[portal] = false
	s.waitUntilKnown(portal)
}

func (s *struggle) remove(portal string) {
	if s.removed[portal] {
		return
	}
	s.command("", "portal", "remove", portal)
	s.removed[portal] = true
	s.waitUntilKnown(portal)
}

// waitUntilKnown waits until each connected process knows of a change of the portal.
func (s *struggle) waitUntilKnown(portal string) {
	s.await("after a change", s.connected(), []string{portal})
}

// connected returns the processes that are neither stopped nor cut off from Redis.
func (s *struggle) connected() []*process {
	var connected []*process
	for _, c := range s.processes {
		if !c.stopped && !c.cut {
			connected = append(connected, c)
		}
	}
	return connected
}

// ask calls the process for a portal and returns the status, or 0 if there was no
// answer.
func (s *struggle) ask(c *process, portal string) int {
	response, err := s.client.Get("http://" + c.Address + "/portals/" + portal + "/crm/v3/objects/" + portal + "/x")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if response.StatusCode == http.StatusOK {
		s.served++
		if echo, err := hubspottest.DecodeEcho(strings.NewReader(string(text))); err == nil && echo.Portal != portal {
			s.t.Errorf("portal %s is served with the credential of %s", portal, echo.Portal)
		}
	}
	return response.StatusCode
}

// await waits until each process serves each portal, or refuses it if the portal is
// removed. what says when that is expected, for the message.
func (s *struggle) await(what string, processes []*process, portals []string) {
	s.t.Helper()
	var wrong string
	for deadline := time.Now().Add(quietTime); ; <-time.After(100 * time.Millisecond) {
		wrong = ""
		for _, c := range processes {
			for _, portal := range portals {
				want := http.StatusOK
				if s.removed[portal] {
					want = http.StatusForbidden
				}
				if got := s.ask(c, portal); got != want {
					wrong = fmt.Sprintf("portal %s is answered %d at %s, not %d", portal, got, c.Address, want)
				}
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			for _, c := range s.processes {
				s.t.Logf("the process at %s printed\n%s", c.Address, &c.Printed)
			}
			s.t.Fatalf("%s, not recovered within %v: %s; faults of this round: %s", what, quietTime, wrong, strings.Join(s.log, "; "))
		}
	}
}
