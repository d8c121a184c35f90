package store

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
)

const (
	// leaseTime is the time after which a lock expires unless it is extended. It is
	// longer than extendEvery and Timeout together, so that a holder keeps its lock when
	// one extension takes until its timeout.
	leaseTime = 5 * time.Second

	// extendEvery is the interval at which the holder extends its lock.
	extendEvery = time.Second
)

// ErrLocked means that another process has the portal's lock.
var ErrLocked = errors.New("another process has the lock")

// Lock acquires the portal's lock in Redis, which keeps two processes from renewing the portal at the
// same time. The lock only saves calls of the token endpoint. Even without the lock, an older record
// never overwrites a newer one.
//
// Lock does not wait for another process: the error is then [ErrLocked]. The error is an [*Error] if
// Redis does not answer. ctx ends the attempt to acquire the lock, and has no effect on an acquired
// lock. That lock is extended until release is called, or until service ends. The caller must call
// release once. If Redis does not answer release, the lock expires after leaseTime.
func (s *Store) Lock(ctx, service context.Context, portal string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	lock, err := redislock.Obtain(ctx, s.Redis, s.Prefix+"lock:{"+portal+"}", leaseTime, nil)
	switch {
	case errors.Is(err, redislock.ErrNotObtained):
		return nil, ErrLocked
	case err != nil:
		return nil, Failure("lock in Redis", err)
	}
	extending, stop := context.WithCancel(service)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		every(extending, extendEvery, func() {
			ctx, cancel := context.WithTimeout(extending, Timeout)
			defer cancel()
			_ = lock.Refresh(ctx, leaseTime, nil) // storing a record is safe even if the lock is lost
		})
	}()
	return func() {
		stop()
		<-stopped
		ctx, cancel := context.WithTimeout(service, Timeout)
		defer cancel()
		_ = lock.Release(ctx)
	}, nil
}

// every calls do at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}
