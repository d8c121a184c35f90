package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// youngTime is how long after a database has lost its data a portal that it does
// not have may just not have been written back.
const youngTime = 10 * time.Second

// eventsName is what the channel of the records is called in each epoch.
const eventsName = "events"

// seen is an epoch, and until when it is young by the process' clock.
type seen struct {
	Epoch
	youngUntil time.Time
}

// see notes an epoch. How old it is tells Redis' clock.
func (s *Store) see(ctx context.Context, epoch Epoch) (*seen, error) {
	if known := s.epoch.Load(); known != nil && known.ID == epoch.ID {
		return known, nil
	}
	next := &seen{Epoch: epoch}
	if began := epoch.Began(); !began.IsZero() && !isEmbedded(s.Redis) {
		ctx, cancel := context.WithTimeout(ctx, Timeout)
		defer cancel()
		now, err := s.Redis.Time(ctx).Result()
		if err != nil {
			return nil, Failure(readEpoch, err)
		}
		next.youngUntil = time.Now().Add(youngTime - now.Sub(began))
	}
	s.epoch.Store(next)
	return next, nil
}

// AskEpoch asks for the database's epoch, and returns for how long it is still
// young: a portal that is not there may be about to be written back. If the
// epoch is another one than before, it is published to all who follow the former one.
func (s *Store) AskEpoch(ctx context.Context) (young time.Duration, err error) {
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return 0, err
	}
	former := s.epoch.Load()
	if former != nil && former.ID != epoch.ID {
		_ = s.publish(ctx, s.Channel(eventsName, former.ID), newEpoch)
	}
	now, err := s.see(ctx, epoch)
	if err != nil {
		return 0, err
	}
	return max(0, time.Until(now.youngUntil)), nil
}

// EpochID returns the id of the epoch as it was last seen; empty: it was not yet.
func (s *Store) EpochID() string { return s.LastEpoch().ID }

// LastEpoch returns the epoch as it was last seen.
func (s *Store) LastEpoch() Epoch {
	if known := s.epoch.Load(); known != nil {
		return known.Epoch
	}
	return Epoch{}
}

// knownEpoch returns the id of the epoch as it was last seen, and asks if it was
// not yet.
func (s *Store) knownEpoch(ctx context.Context) (string, error) {
	if s.epoch.Load() == nil {
		if _, err := s.AskEpoch(ctx); err != nil {
			return "", err
		}
	}
	return s.EpochID(), nil
}

// Hints calls hint for each portal whose record may have changed, until ctx
// ends, and connected whenever hints begin to arrive. A hint says nothing but
// that: anybody who may publish can have sent it. While the Redis user may not
// subscribe, polled is called every few seconds instead: any record may have
// changed.
func (s *Store) Hints(ctx context.Context, connected, polled func(), hint func(portal string)) {
	s.Follow(ctx, eventsName, Follower{
		Connected: func(epoch Epoch) {
			if _, err := s.see(ctx, epoch); err != nil {
				s.epoch.Store(&seen{Epoch: epoch}) // which is not young, as far as is known
			}
			s.polls.Store(false)
			connected()
			s.warm(ctx)
		},
		Polled: func() {
			s.polls.Store(true)
			polled()
		},
		Message: hint,
		Failed:  func(error) {}, // Health has seen it
	})
}

// Polls reports whether changes are polled for, because the Redis user may not
// subscribe.
func (s *Store) Polls() bool { return s.polls.Load() }

// warmConnections is how many commands can be under way without one of them
// having to open a connection first.
const warmConnections = 6

// warm opens connections. Opening one takes several round trips, which a Redis
// that has become slow does not answer within [Timeout].
func (s *Store) warm(ctx context.Context) {
	client, ok := s.Redis.(*redis.Client) // a Cluster has a pool for each of its servers
	if !ok || isEmbedded(s.Redis) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for range warmConnections {
		conn := client.Conn()
		defer conn.Close()
		if conn.Ping(ctx).Err() != nil {
			return
		}
	}
}
