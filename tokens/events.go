package tokens

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// listen takes in the changes that other replicas and the commands publish.
func (s *Source) listen() {
	events := s.store.redis.Subscribe(s.life, s.store.channel())
	defer events.Close()
	for message := range untilDone(s.life, events.ChannelWithSubscriptions()) {
		switch message := message.(type) {
		case *redis.Subscription:
			// Events of the time without a connection are lost.
			s.resync()
		case *redis.Message:
			s.event(message.Payload)
		}
	}
}

// untilDone passes messages on until ctx ends.
func untilDone(ctx context.Context, messages <-chan any) func(yield func(any) bool) {
	return func(yield func(any) bool) {
		for {
			select {
			case message, open := <-messages:
				if !open || !yield(message) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// event takes in one change: "portal generation state".
func (s *Source) event(payload string) {
	fields := strings.Fields(payload)
	if len(fields) != 3 {
		return
	}
	generation, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return
	}
	told := record{generation: generation, state: state(fields[2])}
	s.unknown.Invalidate(fields[0])
	p, known := s.portals.GetIfPresent(fields[0])
	if !known {
		return
	}
	snap := p.current.Load()
	if snap != nil {
		told.seeds = snap.seeds // a tombstone keeps them
	}
	switch {
	case snap != nil && !told.newer(snap.record):
	case told.state == removed:
		// At once, whether or not Redis can be read now.
		p.adopt(s.snapshot(p.id, told, generation, s.knownEpoch()))
	default:
		// If snap is nil, it is being read, and what is read may be older
		// than the event.
		if snap != nil {
			snap.checkAt.Store(0) // should the reading fail, the next use tries again
		}
		// Also if a reading is under way, which may have begun before.
		s.background(new(atomic.Bool), func() { s.check(p, snap) })
	}
}

// resync makes up for events that were missed: each portal is read again when
// it is next used, and all at once if Redis has lost its data, to store again
// what this process knows.
func (s *Source) resync() {
	s.unsaved.hurry()
	s.unknown.InvalidateAll()
	now := s.now()
	for p := range s.portals.Values() {
		if snap := p.current.Load(); snap != nil {
			snap.checkAt.Store(now.Add(jitter(0, checkSoon)).UnixNano())
		}
	}
	s.background(new(atomic.Bool), s.restore)
}

// watch asks for Redis' epoch now and then. So it is known whether Redis answers
// where nobody calls, and a loss of its data is found that broke no connection,
// as by FLUSHALL.
func (s *Source) watch() {
	epoch := ""
	for {
		select {
		case <-s.life.Done():
			return
		case <-time.After(jitter(watchEvery, watchEvery*6/5)):
		}
		if s.askEpoch(s.life) == nil && s.knownEpoch() != epoch {
			epoch = s.knownEpoch()
			s.background(new(atomic.Bool), s.restore)
		}
	}
}

// restore asks for Redis' epoch until it is told, and stores what this process
// knows from another one: Redis has lost its data.
func (s *Source) restore() {
	for s.askEpoch(s.life) != nil {
		select {
		case <-s.closing:
			return
		case <-time.After(jitter(time.Second/2, time.Second)):
		}
	}
	for p := range s.portals.Values() {
		if snap := p.current.Load(); snap == nil || snap.epoch == s.knownEpoch() {
			continue
		}
		var failure *redisError
		if _, err := s.read(s.life, p); errors.As(err, &failure) {
			return // and read again when Redis is back
		}
	}
}
