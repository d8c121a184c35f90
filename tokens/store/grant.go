package store

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Tries are the fingerprints of the apps with which an ended grant was tried, separated by
// spaces, the last try at the end. A "?" after a fingerprint means that HubSpot neither
// accepted nor refused the grant in that try.
type Tries string

// maxTries is the number of tries that a record keeps. During an update, two apps or two
// client secrets are in use at the same time.
const maxTries = 4

// unanswered marks a try in which HubSpot neither accepted nor refused the grant.
const unanswered = "?"

// Refused reports whether HubSpot has refused the grant to the app with this fingerprint.
func (t Tries) Refused(fingerprint string) bool { return slices.Contains(t.list(), fingerprint) }

// Unanswered reports whether HubSpot neither accepted nor refused the grant in the last try
// of the app with this fingerprint.
func (t Tries) Unanswered(fingerprint string) bool {
	return slices.Contains(t.list(), fingerprint+unanswered)
}

// With returns the tries with one more. refused means that HubSpot has refused the grant;
// otherwise HubSpot neither accepted nor refused it.
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

// ownApp returns the field app: the client id and a hash of the refresh token. An earlier
// version, which does not know the field, keeps it when it stores another grant. The hash then
// shows that the client id does not belong to that grant.
func (r Record) ownApp() string {
	if r.App == "" || r.Refresh.IsZero() {
		return ""
	}
	return r.App + " " + r.refreshHash()
}

// appOf returns the client id of the field app, or "" if the field belongs to another grant.
func (r Record) appOf(stored string) string {
	app, hash, _ := strings.Cut(stored, " ")
	if hash != r.refreshHash() {
		return ""
	}
	return app
}

// refreshHash returns the first bytes of a hash: enough to distinguish two refresh tokens, and
// too few to find a token.
func (r Record) refreshHash() string {
	sum := sha256.Sum256([]byte("refresh token\x00" + r.Refresh.Reveal()))
	return hex.EncodeToString(sum[:8])
}
