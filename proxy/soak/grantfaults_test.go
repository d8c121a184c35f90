package soak

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// struggleLife is the lifetime of access tokens. It is short, so that faults happen
// during renewals.
const struggleLife = 6 * time.Second

// struggleFaults are the faults that may happen in a round. A fault with a higher
// number in times is chosen more often.
var struggleFaults = []struct {
	name  string
	times int
	begin func(*struggle)
}{
	{"a process stops", 3, (*struggle).stopOne},
	{"a process is cut off from Redis", 4, (*struggle).cutOne},
	{"a connection to Redis is slow", 2, (*struggle).slowOne},
	{"a process is killed", 2, (*struggle).killOne},
	{"Redis stalls", 3, (*struggle).stallRedis},
	{"Redis returns to its last snapshot", 4, (*struggle).rollBack},
	{"Redis is flushed", 2, (*struggle).flush},
	{"Redis takes no writes", 2, (*struggle).refuseWrites},
	{"a replica that lags behind becomes the master", 4, (*struggle).failOver},
	{"a snapshot is taken", 3, (*struggle).snapshot},
	{"a portal is set", 4, (*struggle).setOne},
	{"a portal is removed", 2, (*struggle).removeOne},
	{"a process misses a change, and Redis loses it", 5, (*struggle).missOne},
	{"tokens expire", 3, (*struggle).expireAll},
	{"HubSpot starts or stops rotating refresh tokens", 2, (*struggle).chooseRotation},
}

// round lets some faults happen while clients call, and then checks all portals.
func (s *struggle) round() {
	s.log = nil
	s.chooseRotation()
	ctx, end := context.WithCancel(context.Background())
	for _, c := range s.processes {
		s.load.Go(func() { s.callAll(ctx, c) })
	}
	total := 0
	for _, f := range struggleFaults {
		total += f.times
	}
	began := time.Now()
	for faults := 3 + s.dice.IntN(5); faults > 0 && time.Since(began) < 15*time.Second; faults-- {
		n := s.dice.IntN(total)
		for _, f := range struggleFaults {
			if n -= f.times; n < 0 {
				s.log = append(s.log, f.name)
				s.counts[f.name]++
				f.begin(s)
				break
			}
		}
		<-time.After(time.Duration(s.dice.Int64N(int64(1500 * time.Millisecond))))
	}
	end()
	s.mend()
	s.load.Wait()
	s.judge()
}

// callAll calls the process for one portal after another until ctx ends.
func (s *struggle) callAll(ctx context.Context, c *process) {
	for i := 0; ctx.Err() == nil; i++ {
		s.ask(c, grantPortals[i%len(grantPortals)])
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// mend ends all lasting faults.
func (s *struggle) mend() {
	for _, c := range s.processes {
		c.Continue()
		c.wire.Mend()
		c.wire.Delay(0)
		c.stopped, c.cut = false, false
	}
	s.servers[0].Do("config", "set", "min-replicas-to-write", "0")
}

// judge checks that every process, and a new one, serves each portal that is not
// removed. It checks this with the tokens that exist, and again after all of them have
// expired.
func (s *struggle) judge() {
	s.await("after all faults", s.processes, grantPortals)
	for len(s.processes) >= 4 { // at most four processes, with the new one
		s.retire(s.processes[0])
	}
	s.launch()
	s.await("with a new process", s.processes, grantPortals)
	for i, portal := range grantPortals[:grantPortalsOAuth] {
		if !s.removed[portal] {
			s.hub.Expire(grantPortals[i])
		}
	}
	s.await("after all tokens have expired", s.processes, grantPortals)
	if v := s.hub.Violations(); len(v) > 0 {
		s.t.Fatalf("HubSpot: %q", v)
	}
}

// retire waits until everything that the process knows is stored, takes a snapshot of
// Redis, and kills the process. Because of the snapshot, Redis cannot return to an
// earlier state.
func (s *struggle) retire(c *process) {
	for s.unsaved(c) > 0 {
		<-time.After(50 * time.Millisecond)
	}
	s.snapshot()
	c.Kill()
	s.processes = slices.DeleteFunc(s.processes, func(other *process) bool { return other == c })
}

// unsaved returns the number of portals that the process has renewed and not stored. It
// returns 1 if that cannot be read.
func (s *struggle) unsaved(c *process) int {
	response, err := s.client.Get("http://" + c.Admin + "/metrics")
	if err != nil {
		return 1
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	_, after, _ := strings.Cut(string(text), "\nhubspot_auth_proxy_unsaved_portals ")
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]))
	if err != nil {
		return 1
	}
	return n
}

func (s *struggle) any() *process { return s.processes[s.dice.IntN(len(s.processes))] }

func (s *struggle) stopOne() {
	if c := s.any(); len(s.connected()) > 1 {
		c.stopped = true
		c.Stop()
	}
}

func (s *struggle) cutOne() {
	if c := s.any(); len(s.connected()) > 1 {
		c.cut = true
		c.wire.Cut()
	}
}

func (s *struggle) slowOne() {
	s.any().wire.Delay(time.Duration(s.dice.Int64N(int64(2500 * time.Millisecond))))
}

// killOne kills a process and starts another. HubSpot does not rotate meanwhile, because
// a refresh token that only the killed process knows is lost.
func (s *struggle) killOne() {
	if len(s.connected()) < len(s.processes) {
		return
	}
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: struggleLife})
	s.mend()
	s.await("before a process is killed", s.processes, grantPortals)
	s.retire(s.any())
	next := s.launch()
	s.await("after a process was killed and replaced", []*process{next}, grantPortals)
}

func (s *struggle) stallRedis() {
	s.servers[0].Pause()
	<-time.After(time.Duration(s.dice.Int64N(int64(3 * time.Second))))
	s.servers[0].Resume()
}

func (s *struggle) rollBack() {
	s.servers[0].Kill()
	<-time.After(time.Duration(s.dice.Int64N(int64(time.Second))))
	s.servers[0].Restart()
}

func (s *struggle) flush() { s.servers[0].Do("flushall") }

func (s *struggle) refuseWrites() {
	s.servers[0].Do("config", "set", "min-replicas-to-write", "1")
	<-time.After(time.Duration(s.dice.Int64N(int64(3 * time.Second))))
	s.servers[0].Do("config", "set", "min-replicas-to-write", "0")
}

// failOver makes a replica the master while processes still write to the old master.
// The processes switch to the new master one after another. What was written to the old
// master meanwhile is lost.
func (s *struggle) failOver() {
	from, to := s.servers[0], s.servers[1]
	host, port, _ := strings.Cut(from.Addr, ":")
	to.Do("replicaof", host, port)
	testkit.Eventually(s.t, "the replica follows", func() bool { return strings.Contains(to.Do("info", "replication"), "master_link_status:up") })
	to.Do("replicaof", "no", "one")
	s.expireAll()
	<-time.After(time.Duration(s.dice.Int64N(int64(2 * time.Second))))
	for _, c := range s.processes {
		c.wire.Redirect(to)
		<-time.After(time.Duration(s.dice.Int64N(int64(700 * time.Millisecond))))
	}
	s.servers = [2]*redistest.Server{to, from}
}

func (s *struggle) snapshot() { s.servers[0].Do("save") }

func (s *struggle) setOne() { s.changeOne(s.set) }

func (s *struggle) removeOne() { s.changeOne(s.remove) }

// changeOne changes a random portal by a command, unless no process would learn of the
// change.
func (s *struggle) changeOne(change func(string)) {
	if len(s.connected()) > 0 {
		change(grantPortals[s.dice.IntN(len(grantPortals))])
	}
}

// missOne cuts a process off from Redis while a portal is changed. Then Redis loses the
// change, and the process reaches Redis again before or after the processes that know of
// the change.
func (s *struggle) missOne() {
	c := s.any()
	if len(s.connected()) < 2 || c.stopped || c.cut {
		return
	}
	c.cut = true
	c.wire.Cut()
	if s.dice.IntN(2) == 0 {
		s.setOne()
	} else {
		s.removeOne()
	}
	others := s.connected()
	for _, other := range others {
		other.cut = true
		other.wire.Cut()
	}
	if s.dice.IntN(3) > 0 {
		s.flush()
	} else {
		s.rollBack()
	}
	order := append([]*process{c}, others...)
	if s.dice.IntN(2) == 0 {
		slices.Reverse(order)
	}
	for _, next := range order {
		next.cut = false
		next.wire.Mend()
		// This is usually long enough for the process to write back what it holds.
		<-time.After(2*time.Second + time.Duration(s.dice.Int64N(int64(time.Second))))
	}
}

func (s *struggle) expireAll() {
	for _, portal := range grantPortals[:grantPortalsOAuth] {
		s.hub.Expire(portal)
	}
}

func (s *struggle) chooseRotation() {
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: struggleLife, Rotate: s.dice.IntN(2) == 0})
}
