package store

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Tries are the credentials of apps with which an ended grant was tried, by their
// fingerprints, the last one at the end. A fingerprint that ends in "?" belongs to
// a try that HubSpot neither accepted nor refused.
type Tries string

// maxTries bounds what a record remembers. During an update, two apps or two client
// secrets are in use at the same time.
const maxTries = 4

// unanswered marks a try that was neither accepted nor refused.
const unanswered = "?"

// Refused reports whether HubSpot has refused the grant to the app.
func (t Tries) Refused(fingerprint string) bool { return slices.Contains(t.list(), fingerprint) }

// Unanswered reports whether the last try of the app was neither accepted nor refused.
func (t Tries) Unanswered(fingerprint string) bool {
	return slices.Contains(t.list(), fingerprint+unanswered)
}

// With returns the tries with one more. refused reports that HubSpot has refused
// the grant; otherwise the try has shown nothing.
func (t Tries) With(fingerprint string, refused bool) Tries {
	list := slices.DeleteFunc(t.list(), func(known string) bool {
		return strings.TrimSuffix(known, unanswered) == fingerprint
	})
	if !refused {
		fingerprint += unanswered
	}
	list = append(list, fingerprint)
	return Tries(strings.Join(list[max(0, len(list)-maxTries):], " "))
}

func (t Tries) list() []string { return strings.Fields(string(t)) }

// ownApp returns the client id as it is stored: with a hash of the refresh token.
// A version that does not know the field leaves it as it is when it stores another
// grant. The client id then does not count any more.
func (r Record) ownApp() string {
	if r.App == "" || r.Refresh.IsZero() {
		return ""
	}
	return r.App + " " + r.refreshHash()
}

// appOf returns the client id of the stored text, if it is about this grant.
func (r Record) appOf(stored string) string {
	app, hash, _ := strings.Cut(stored, " ")
	if hash != r.refreshHash() {
		return ""
	}
	return app
}

// refreshHash returns a part of a hash, which is too short to find anything by it
// and long enough to distinguish two refresh tokens.
func (r Record) refreshHash() string {
	sum := sha256.Sum256([]byte("refresh token\x00" + r.Refresh.Reveal()))
	return hex.EncodeToString(sum[:8])
}
