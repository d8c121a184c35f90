package clients

import (
	"time"

	"go.uber.org/zap"
)

// NewSetEvery is NewSet with another time between two readings of the store.
func NewSetEvery(store Store, log *zap.Logger, every time.Duration) *Set {
	return newSet(store, log, every, time.Now)
}

// NewSetAt is NewSet with another clock.
func NewSetAt(store Store, log *zap.Logger, now func() time.Time) *Set {
	return newSet(store, log, checkEvery, now)
}
