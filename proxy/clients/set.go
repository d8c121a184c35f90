package clients

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// checkEvery is how often the clients are read again, in case that the event
// of a change was lost; retryEvery, after reading failed.
const (
	checkEvery = 60 * time.Second
	retryEvery = 5 * time.Second

	// hintEvery is how often the clients are read because of hints, at most.
	hintEvery = 50 * time.Millisecond
)

// A Set is the clients as a process knows them: all of them, so that neither a
// known key nor a guessed one costs a round trip to Redis. It is safe for
// concurrent use.
type Set struct {
	store  Store
	log    *zap.Logger
	now    func() time.Time
	every  time.Duration         // how often to read the store without an event
	stored atomic.Pointer[index] // what Redis has
	seeded atomic.Pointer[index] // what the seed file has
	loaded atomic.Bool           // the store was read

	mu   sync.Mutex // held while stored is replaced
	end  context.CancelFunc
	loop sync.WaitGroup
}

// index is clients by the hashes of their keys.
type index struct {
	clients []Client
	byHash  map[[sha256.Size]byte]*holder
	version int64
}

// holder is whose a key is.
type holder struct {
	client   *Client
	key      Key
	reported atomic.Int64 // when its use was last reported, in seconds since 1970
}

func newIndex(clients []Client, version int64) *index {
	i := &index{clients: clients, byHash: make(map[[sha256.Size]byte]*holder, len(clients)), version: version}
	for n := range clients {
		for _, key := range clients[n].keys() {
			var hash [sha256.Size]byte
			if length, err := hex.Decode(hash[:], []byte(key.SHA256)); err == nil && length == len(hash) {
				i.byHash[hash] = &holder{client: &clients[n], key: key}
			}
		}
	}
	return i
}

// NewSet returns a set that follows the store's changes until it is closed. It
// is empty until [Set.Load] has read the store, or a change was heard of.
func NewSet(store Store, log *zap.Logger) *Set { return newSet(store, log, checkEvery, time.Now) }

func newSet(store Store, log *zap.Logger, every time.Duration, now func() time.Time) *Set {
	s := &Set{store: store, log: log, now: now, every: every}
	s.stored.Store(newIndex(nil, 0))
	s.seeded.Store(newIndex(nil, 0))
	life, end := context.WithCancel(context.Background())
	s.end = end
	s.loop.Go(func() { s.follow(life) })
	return s
}

// Close ends the set's following of the store.
func (s *Set) Close() {
	s.end()
	s.loop.Wait()
}

// Find returns the client whose key it is, unless the key has expired. It compares hashes: how long it
// takes tells nothing of how much of a guessed key is right.
func (s *Set) Find(key secret.Text) (client *Client, known bool) {
	held, known := s.holder(key)
	if !known || !held.key.works(s.now) {
		return nil, false
	}
	if !held.key.Expires.IsZero() && held.key.SHA256 != held.client.KeySHA256 {
		s.reportOlder(held)
	}
	return held.client, true
}

// Expired reports whether the key is one that worked until it expired.
func (s *Set) Expired(key secret.Text) bool {
	held, known := s.holder(key)
	return known && !held.key.works(s.now)
}

// holder returns whose the key is, be it expired or not. A key that works is
// preferred to the same one of another client.
func (s *Set) holder(key secret.Text) (held *holder, known bool) {
	hash := sha256.Sum256([]byte(key.Reveal()))
	held, known = s.seeded.Load().byHash[hash]
	if known && held.key.works(s.now) {
		return held, true
	}
	if stored, has := s.stored.Load().byHash[hash]; has {
		return stored, true
	}
	return held, known
}

// Seed replaces the clients that the seed file has. One that is no longer
// among them is cut off.
func (s *Set) Seed(clients []Client) {
	clients = slices.Clone(clients)
	for i := range clients {
		clients[i].Seeded = true
	}
	s.seeded.Store(newIndex(clients, 0))
}

// Load reads the store.
func (s *Set) Load(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	read, err := s.store.load(ctx)
	if err != nil {
		return err
	}
	if held := s.stored.Load(); read.version < held.version {
		// A change leaves its version behind. This is Redis as it was before,
		// or empty.
		s.log.Warn("Redis has lost clients; they are stored again", zap.Int("clients", len(held.clients)))
		if err := s.store.restore(ctx, held.clients, held.version); err != nil {
			return err
		}
		if read, err = s.store.load(ctx); err != nil {
			return err
		}
	}
	if len(read.damaged) > 0 {
		s.log.Error("some clients cannot be used", zap.Error(&DamagedError{Names: read.damaged}))
	}
	s.stored.Store(newIndex(read.clients, read.version))
	s.loaded.Store(true)
	return nil
}

// Loaded reports whether the store was ever read. Until then, a key that is not
// known may still be a client's.
func (s *Set) Loaded() bool { return s.loaded.Load() }

// follow reads the store again after each hint that it has changed, and now and
// then. That is all that a message can do: no client is taken from one.
func (s *Set) follow(life context.Context) {
	changed := make(chan struct{}, 1)
	hint := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() {
		s.store.database().Follow(life, channelName, store.Follower{
			Connected: func(store.Epoch) { hint() },
			Polled:    hint,
			Message:   func(string) { hint() },
			Failed:    func(error) {}, // loading fails then, too
		})
	})
	wait, warned := s.every, make(map[string]time.Time)
	for {
		select {
		case <-life.Done():
			return
		case <-changed:
		case <-time.After(wait + rand.N(wait/5)):
		}
		wait = s.every
		s.warnOfExpiry(warned)
		if err := s.Load(life); err != nil && life.Err() == nil {
			s.log.Warn("the clients cannot be read; those that are known stay", zap.Error(err))
			wait = min(retryEvery, s.every)
		}
		// Not more often, however many hints come.
		select {
		case <-life.Done():
		case <-time.After(hintEvery):
		}
	}
}

// All returns the clients that have a key, those of the seed file first. They
// must not be changed.
func (s *Set) All() []Client {
	return slices.Concat(s.seeded.Load().clients, s.stored.Load().clients)
}
