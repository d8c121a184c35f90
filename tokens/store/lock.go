package store

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
)

const (
	// leaseTime is how long a lock outlives its holder. It is longer than a
	// stall of Redis that is waited for: a holder whose extension is late by
	// Timeout still has the lock.
	leaseTime = 5 * time.Second

	// extendEvery is how often a holder extends its lease.
	extendEvery = time.Second
)

// ErrLocked: another process has the portal's lock.
var ErrLocked = errors.New("another process has the lock")

// A Lock is a portal's lock. It saves calls of the token endpoint; that no newer
// record is overwritten does not depend on it.
type Lock struct {
	lock          *redislock.Lock
	stop, stopped chan struct{}
}

// Lock takes the portal's lock, or returns [ErrLocked]. The lock is extended
// until it is released, or life ends.
func (s *Store) Lock(ctx, life context.Context, portal string) (*Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	lock, err := redislock.Obtain(ctx, s.Redis, s.Prefix+"lock:{"+portal+"}", leaseTime, nil)
	switch {
	case errors.Is(err, redislock.ErrNotObtained):
		return nil, ErrLocked
	case err != nil:
		return nil, Failure("lock in Redis", err)
	}
	l := &Lock{lock: lock, stop: make(chan struct{}), stopped: make(chan struct{})}
	go l.extend(life)
	return l, nil
}

func (l *Lock) extend(life context.Context) {
	defer close(l.stopped)
	ticker := time.NewTicker(extendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ctx, cancel := context.WithTimeout(life, Timeout)
			_ = l.lock.Refresh(ctx, leaseTime, nil) // lost or not: storing is safe without it
			cancel()
		case <-l.stop:
			return
		}
	}
}

// Release releases the lock if it is still held. Else it ends by itself.
func (l *Lock) Release(ctx context.Context) {
	close(l.stop)
	<-l.stopped
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	_ = l.lock.Release(ctx)
}
