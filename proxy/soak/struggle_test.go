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
)

// struggleLife is that of access tokens: short, so that faults meet renewals.
const struggleLife = 6 * time.Second

// struggleFaults are what may happen in a round, and how often.
var struggleFaults = []struct {
	name  string
	times int
	begin func(*struggle)
}{
	{"a process stops", 3, (*struggle).stopOne},
	{"a process is cut off", 4, (*struggle).cutOne},
	{"a way to Redis is slow", 2, (*struggle).slowOne},
	{"a process is killed", 2, (*struggle).killOne},
	{"Redis stalls", 3, (*struggle).stallRedis},
	{"Redis goes back to its last snapshot", 4, (*struggle).rollBack},
	{"Redis is flushed", 2, (*struggle).flush},
	{"Redis takes no writes", 2, (*struggle).refuseWrites},
	{"a replica that lags behind becomes the master", 4, (*struggle).failOver},
	{"a snapshot is taken", 3, (*struggle).snapshot},
	{"a portal is set", 4, (*struggle).setOne},
	{"a portal is removed", 2, (*struggle).removeOne},
	{"a process misses a change, and Redis loses it", 5, (*struggle).missOne},
	{"tokens expire", 3, (*struggle).expireAll},
	{"HubSpot begins or ceases to rotate", 2, (*struggle).turnRotation},
}

// round lets some faults happen while clients call, and then judges.
func (s *struggle) round() {
	s.log = nil
	s.turnRotation()
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

// callAll calls for all portals until ctx ends.
func (s *struggle) callAll(ctx context.Context, c *contender) {
	for i := 0; ctx.Err() == nil; i++ {
		s.ask(c, struggled[i%len(struggled)])
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// mend ends all faults that last.
func (s *struggle) mend() {
	for _, c := range s.processes {
		c.Continue()
		c.wire.Mend()
		c.wire.Delay(0)
		c.stopped, c.cut = false, false
	}
	s.servers[0].Do("config", "set", "min-replicas-to-write", "0")
}

// judge wants every process, and a new one, to answer for each portal as it is,
// with the tokens at hand and with new ones.
func (s *struggle) judge() {
	s.await("all is well again", s.processes, struggled)
	for len(s.processes) >= 4 { // the oldest one makes room
		s.retire(s.processes[0])
	}
	s.launch()
	s.await("a new process is as the others", s.processes, struggled)
	for i, portal := range struggled[:struggledOAuth] {
		if !s.removed[portal] {
			s.hub.Expire(struggled[i])
		}
	}
	s.await("all refresh tokens are there", s.processes, struggled)
	if v := s.hub.Violations(); len(v) > 0 {
		s.t.Fatalf("HubSpot: %q", v)
	}
}

// retire kills a process that knows nothing that the others do not know, with
// Redis' data safe from being rolled back beyond that.
func (s *struggle) retire(c *contender) {
	for s.unsaved(c) > 0 {
		<-time.After(50 * time.Millisecond)
	}
	s.snapshot()
	c.Kill()
	s.processes = slices.DeleteFunc(s.processes, func(other *contender) bool { return other == c })
}

// unsaved returns how many portals the process has renewed and not stored.
func (s *struggle) unsaved(c *contender) int {
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

func (s *struggle) any() *contender { return s.processes[s.dice.IntN(len(s.processes))] }

func (s *struggle) stopOne() {
	if c := s.any(); len(s.hearing()) > 1 {
		c.stopped = true
		c.Stop()
	}
}

func (s *struggle) cutOne() {
	if c := s.any(); len(s.hearing()) > 1 {
		c.cut = true
		c.wire.Cut()
	}
}

func (s *struggle) slowOne() {
	s.any().wire.Delay(time.Duration(s.dice.Int64N(int64(2500 * time.Millisecond))))
}

// killOne kills a process in the midst of its work, without a rotation that
// only it has seen: what no process knows that lives, may be lost.
func (s *struggle) killOne() {
	if len(s.hearing()) < len(s.processes) {
		return
	}
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: struggleLife})
	s.mend()
	s.await("all is well before a process is killed", s.processes, struggled)
	s.retire(s.any())
	next := s.launch()
	s.await("the next process is as the others", []*contender{next}, struggled)
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

// failOver makes a replica the master that does not get what the old one is
// still given, until the last process has turned to the new one.
func (s *struggle) failOver() {
	from, to := s.servers[0], s.servers[1]
	host, port, _ := strings.Cut(from.Addr, ":")
	to.Do("replicaof", host, port)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(to.Do("info", "replication"), "master_link_status:up"); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("the replica does not follow")
		}
	}
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

// changeOne changes a portal with the command, while Redis takes it and some
// process hears of it.
func (s *struggle) changeOne(change func(string)) {
	if len(s.hearing()) > 0 {
		change(struggled[s.dice.IntN(len(struggled))])
	}
}

// missOne cuts a process off while a portal is changed. Redis loses the change,
// and that process comes back before those that know of it, or after.
func (s *struggle) missOne() {
	c := s.any()
	if len(s.hearing()) < 2 || c.stopped || c.cut {
		return
	}
	c.cut = true
	c.wire.Cut()
	if s.dice.IntN(2) == 0 {
		s.setOne()
	} else {
		s.removeOne()
	}
	others := s.hearing()
	for _, other := range others {
		other.cut = true
		other.wire.Cut()
	}
	if s.dice.IntN(3) > 0 {
		s.flush()
	} else {
		s.rollBack()
	}
	order := append([]*contender{c}, others...)
	if s.dice.IntN(2) == 0 {
		slices.Reverse(order)
	}
	for _, next := range order {
		next.cut = false
		next.wire.Mend()
		// Long enough, most often, for it to write back what it holds.
		<-time.After(2*time.Second + time.Duration(s.dice.Int64N(int64(time.Second))))
	}
}

func (s *struggle) expireAll() {
	for _, portal := range struggled[:struggledOAuth] {
		s.hub.Expire(portal)
	}
}

func (s *struggle) turnRotation() {
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: struggleLife, Rotate: s.dice.IntN(2) == 0})
}
