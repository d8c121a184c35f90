package store

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
)

const (
	// leaseTime is the time after which a lock expires unless it is extended. It is
	// longer than Timeout and extendEvery together, so the holder still has the lock
	// after Redis has stalled for less than Timeout.
	leaseTime = 5 * time.Second

	// extendEvery is the interval at which the holder extends its lock.
	extendEvery = time.Second
)

// ErrLocked means that another process has the portal's lock.
var ErrLocked = errors.New("another process has the lock")

// A Lock is a portal's lock in Redis, which keeps two processes from renewing the portal at the
// same time. The lock only saves calls of the token endpoint: even without the lock, an older
// record never overwrites a newer one.
type Lock struct {
	lock          *redislock.Lock
	stop, stopped chan struct{}
}

// Lock acquires the portal's lock. It returns [ErrLocked] if another process has the lock, and
// an [*Error] if Redis does not answer. ctx limits only the acquisition. service is the context
// of the whole service: the lock is extended until [Lock.Release] or until service ends. The
// caller must call Release once.
func (s *Store) Lock(ctx, service context.Context, portal string) (*Lock, error) {
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
	go l.extend(service)
	return l, nil
}

func (l *Lock) extend(service context.Context) {
	defer close(l.stopped)
	ticker := time.NewTicker(extendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ctx, cancel := context.WithTimeout(service, Timeout)
			_ = l.lock.Refresh(ctx, leaseTime, nil) // storing a record is safe even if the lock is lost
			cancel()
		case <-l.stop:
			return
		}
	}
}

// Release releases the lock if this process still has it. If Redis does not answer, the lock
// expires by itself.
func (l *Lock) Release(ctx context.Context) {
	close(l.stop)
	<-l.stopped
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	_ = l.lock.Release(ctx)
}
