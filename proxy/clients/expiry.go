package clients

import (
	"time"

	"go.uber.org/zap"
)

const (
	// olderEvery is how often the use of one older key is reported.
	olderEvery = time.Hour

	// expiryEvery is how often it is reported that one key expires soon.
	expiryEvery = 24 * time.Hour
)

// reportOlder reports a client that uses a key which a newer one has replaced.
func (s *Set) reportOlder(held *holder) {
	now, before := s.now().Unix(), held.reported.Load()
	if now-before < int64(olderEvery/time.Second) || !held.reported.CompareAndSwap(before, now) {
		return
	}
	s.log.Warn("a client still uses a key that was replaced; give it the new one before the old one expires",
		zap.String("client", held.client.Name), zap.Time("expires", held.key.Expires))
}

// warnOfExpiry reports the clients whose current key expires soon. It keeps in
// warned which it has reported.
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

// Expiring returns how many clients' current keys expire within 14 days, or have
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
