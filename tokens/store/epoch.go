package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// YoungTime is the time after a loss of data for which the database counts as young: a
// missing portal may be about to be written back by another process.
const YoungTime = 10 * time.Second

// eventsName is the name of the records' channel, without prefix and epoch.
const eventsName = "events"

// epochState is an epoch, and the time until which it is young by the process's clock.
type epochState struct {
	Epoch
	youngUntil time.Time
}

// setEpoch stores the current epoch. It reads Redis' clock to calculate the epoch's age.
func (s *Store) setEpoch(ctx context.Context, epoch Epoch) (*epochState, error) {
	if known := s.epoch.Load(); known != nil && known.ID == epoch.ID {
		return known, nil
	}
	next := &epochState{Epoch: epoch}
	if began := epoch.Began(); !began.IsZero() && !isEmbedded(s.Redis) {
		ctx, cancel := context.WithTimeout(ctx, Timeout)
		defer cancel()
		now, err := s.Redis.Time(ctx).Result()
		if err != nil {
			return nil, Failure(readEpoch, err)
		}
		next.youngUntil = time.Now().Add(YoungTime - now.Sub(began))
	}
	s.epoch.Store(next)
	return next, nil
}

// RefreshEpoch reads the database's epoch, and returns the time for which the epoch is still
// young, or 0. While it is young, a missing portal may be about to be written back. If the
// epoch has changed, RefreshEpoch publishes a message on the channel of the former epoch, so
// that other processes read the new epoch. The error is an [*Error].
func (s *Store) RefreshEpoch(ctx context.Context) (young time.Duration, err error) {
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return 0, err
	}
	former := s.epoch.Load()
	if former != nil && former.ID != epoch.ID {
		_ = s.publish(ctx, s.Channel(eventsName, former.ID), newEpoch)
	}
	now, err := s.setEpoch(ctx, epoch)
	if err != nil {
		return 0, err
	}
	return max(0, time.Until(now.youngUntil)), nil
}

// LastEpoch returns the epoch that was last read, or the zero Epoch if none was read yet.
func (s *Store) LastEpoch() Epoch {
	if known := s.epoch.Load(); known != nil {
		return known.Epoch
	}
	return Epoch{}
}

// knownEpoch returns the id of the epoch that was last read. If none was read yet, knownEpoch
// reads it.
func (s *Store) knownEpoch(ctx context.Context) (string, error) {
	if s.epoch.Load() == nil {
		if _, err := s.RefreshEpoch(ctx); err != nil {
			return "", err
		}
	}
	return s.LastEpoch().ID, nil
}

// Hints calls hint for each portal whose record may have changed, until ctx ends. It calls
// connected whenever hints begin to arrive; hints before that are lost. A hint says nothing
// else, because anyone with the right to publish may have sent it. While the Redis user has no
// right to subscribe, Hints calls polled every few seconds instead, which means that any record
// may have changed. The functions are called one at a time.
func (s *Store) Hints(ctx context.Context, connected, polled func(), hint func(portal string)) {
	s.Follow(ctx, eventsName, Follower{
		Connected: func(epoch Epoch) {
			if _, err := s.setEpoch(ctx, epoch); err != nil {
				s.epoch.Store(&epochState{Epoch: epoch}) // its age is not known, so it counts as old
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
		// A Redis that has restarted may answer all commands after one of go-redis' tries.
		Failed: func(error) { s.failed() },
	})
}

// Polls reports whether Hints polls, because the Redis user has no right to subscribe.
func (s *Store) Polls() bool { return s.polls.Load() }

// warmConnections is the number of connections that are opened in advance.
const warmConnections = 6

// warm opens connections in advance. To open a connection takes several round trips, for which
// [Timeout] is too short if Redis becomes slow.
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
