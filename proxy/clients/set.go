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

// checkEvery is how often the clients are read again, in case a change's event was lost.
// retryEvery is the interval after a failed read.
const (
	checkEvery = 60 * time.Second
	retryEvery = 5 * time.Second

	// hintEvery is the shortest interval between two reads because of hints.
	hintEvery = 50 * time.Millisecond

	// olderEvery is how often the log reports the use of one older key.
	olderEvery = time.Hour

	// expiryEvery is how often the log reports that one key expires soon.
	expiryEvery = 24 * time.Hour
)

// A Set holds all clients in memory, so that neither a known nor a guessed key needs a round
// trip to Redis. It is safe for concurrent use.
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

// index maps the hashes of keys to their clients.
type index struct {
	clients []Client
	byHash  map[[sha256.Size]byte]*holder
	version int64
}

// holder is the client that has a key.
type holder struct {
	client   *Client
	key      Key
	reported atomic.Int64 // when the key's use was last reported, in seconds since 1970
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

// NewSet returns a set that follows the store's changes until it is closed. The set is empty
// until [Set.Load] has read the store, or until a change's event has arrived.
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

// Close stops following the store's changes.
func (s *Set) Close() {
	s.end()
	s.loop.Wait()
}

// Find returns the client that has the key, or nil if no client has it or the key has expired.
// It compares hashes, so its running time reveals nothing about how much of a guessed key is
// right.
func (s *Set) Find(key secret.Text) *Client {
	held, known := s.holder(key)
	if !known || !held.key.works(s.now) {
		return nil
	}
	if !held.key.Expires.IsZero() && held.key.SHA256 != held.client.KeySHA256 {
		s.reportOlder(held)
	}
	return held.client
}

// Expired reports whether the key belongs to a client and has expired.
func (s *Set) Expired(key secret.Text) bool {
	held, known := s.holder(key)
	return known && !held.key.works(s.now)
}

// holder returns the client that has the key, expired or not. If two clients have the same
// key, holder prefers the one for which the key has not expired.
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

// Seed replaces the clients of the seed file. The keys of clients that are no longer among
// them stop working.
func (s *Set) Seed(clients []Client) {
	clients = slices.Clone(clients)
	for i := range clients {
		clients[i].Seeded = true
	}
	s.seeded.Store(newIndex(clients, 0))
}

// Load reads the clients from the store.
func (s *Set) Load(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	read, err := s.store.load(ctx)
	if err != nil {
		return err
	}
	if held := s.stored.Load(); read.version < held.version {
		// Each change increases the version. A smaller version means that Redis has
		// lost data: Redis has an older state, or is empty.
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

// Loaded reports whether the store was ever read. Before that, an unknown key may still belong
// to a client.
func (s *Set) Loaded() bool { return s.loaded.Load() }

// follow reads the store again after each hint of a change, and at intervals. A message can
// do nothing more: its content is never used as a client.
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
			Failed:    func(error) {}, // Load fails too, and logs its own error
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
		// Limit the reads, even if many hints arrive.
		select {
		case <-life.Done():
		case <-time.After(hintEvery):
		}
	}
}

// All returns all clients. The clients of the seed file come first. The caller must not
// change the clients.
func (s *Set) All() []Client {
	return slices.Concat(s.seeded.Load().clients, s.stored.Load().clients)
}

// reportOlder logs that a client uses a key that a newer key has replaced.
func (s *Set) reportOlder(held *holder) {
	now, before := s.now().Unix(), held.reported.Load()
	if now-before < int64(olderEvery/time.Second) || !held.reported.CompareAndSwap(before, now) {
		return
	}
	s.log.Warn("a client still uses a key that was replaced; give it the new one before the old one expires",
		zap.String("client", held.client.Name), zap.Time("expires", held.key.Expires))
}

// warnOfExpiry logs the clients whose current key expires soon. warned records the
// clients that warnOfExpiry has logged.
func (s *Set) warnOfExpiry(warned map[string]time.Time) {
	now := s.now()
	for _, client := range s.All() {
		if !client.ExpiresSoon(now) || now.Sub(warned[client.Name]) < expiryEvery {
			continue
		}
		warned[client.Name] = now
		s.log.Warn("a client's key expires soon, or has expired; make another by client rotate, or in the seed file",
			zap.String("client", client.Name), zap.Time("expires", client.Expires))
	}
}

// Expiring returns the number of clients whose current key expires within 14 days or has
// expired.
func (s *Set) Expiring() int {
	n, now := 0, s.now()
	for _, client := range s.All() {
		if client.ExpiresSoon(now) {
			n++
		}
	}
	return n
}
