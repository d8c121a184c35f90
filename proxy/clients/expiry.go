package clients

import (
	"time"

	"go.uber.org/zap"
)

const (
	// olderEvery is how often the log reports the use of one older key.
	olderEvery = time.Hour

	// expiryEvery is how often the log reports that one key expires soon.
	expiryEvery = 24 * time.Hour
)

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
