// Package clients manages the clients of the proxy: their keys and their rights.
//
// # Layout of Redis
//
//	clients         hash: a field "client:NAME" for each client, JSON; and
//	                "version": µs since 1970 by Redis' clock, at least one more
//	                than before with each change
//	client-events:EPOCH
//	                channel: a message after each change, as package
//	                tokens/store has it: a hint to read, and nothing more
package clients

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// AllPortals is the only element of Client.Portals for a client that may use all portals.
const AllPortals = "*"

// A Client is one client of the proxy. Do not change a Client that is in use.
type Client struct {
	Name string `json:"name"`

	// KeySHA256 is the SHA-256 of the current key, in hex. The key itself is not
	// stored. A key has 256 random bits, so nobody can find the key from the hash.
	KeySHA256 string `json:"key_sha256"`

	// Expires is when the current key expires. Zero means never.
	Expires time.Time `json:"expires,omitzero"`

	// OlderKeys are further keys that still work until they expire, such as those that
	// a rotation has replaced.
	OlderKeys []Key `json:"older_keys,omitempty"`

	// Portals are the ids of the portals that the client may use, or only [AllPortals].
	Portals []string `json:"portals"`

	// ReadOnly means that the client may send only GET, HEAD, and the POSTs of
	// HubSpot's API that change nothing.
	ReadOnly bool `json:"read_only"`

	// Paths are path rules, see [wire.IsPathRule]. The client may use these paths and
	// all paths below them. nil means all paths.
	Paths []string `json:"paths,omitempty"`

	// DailyLimit is how many calls the client may send per day, in UTC. Zero means no
	// limit.
	DailyLimit int64 `json:"daily_limit,omitempty"`

	// Seeded means that the client comes from the seed file, not from Redis.
	Seeded bool `json:"-"`
}

// A Key is one key of a client that has several.
type Key struct {
	SHA256  string    `json:"key_sha256"`       // as in Client
	Expires time.Time `json:"expires,omitzero"` // zero means never
}

// works reports whether the key has not expired. It calls the clock only for a key that can
// expire.
func (k Key) works(now func() time.Time) bool { return k.Expires.IsZero() || now().Before(k.Expires) }

// ParseExpiry parses the time at which a key expires. text is a day such as 2027-01-31,
// at whose end (UTC) the key expires, or a time by RFC 3339. The result is in UTC.
func ParseExpiry(text string) (expires time.Time, ok bool) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), true
	}
	expires, err := time.Parse(time.RFC3339, text)
	return expires.UTC(), err == nil
}

// expiryWarning is how long before a key's expiry the log reports it.
const expiryWarning = 14 * 24 * time.Hour

// ExpiresSoon reports whether the client's current key expires within 14 days, or
// has expired.
func (c *Client) ExpiresSoon(now time.Time) bool {
	return !c.Expires.IsZero() && c.Expires.Sub(now) < expiryWarning
}

// keys returns all keys of the client, the current one first.
func (c *Client) keys() []Key {
	return append([]Key{{SHA256: c.KeySHA256, Expires: c.Expires}}, c.OlderKeys...)
}

// Working returns the number of the client's keys that have not expired.
func (c *Client) Working(now time.Time) (n int) {
	for _, key := range c.keys() {
		if key.works(func() time.Time { return now }) {
			n++
		}
	}
	return n
}

// Rotated returns a copy of the client with a new current key. A zero expiry means never. The
// previous keys work until the overlap has passed, or until their own expiry if that is
// earlier.
func (c Client) Rotated(key secret.Text, expires time.Time, overlap time.Duration, now time.Time) Client {
	var older []Key
	for _, k := range c.keys() {
		if end := now.Add(overlap); k.Expires.IsZero() || end.Before(k.Expires) {
			k.Expires = end
		}
		if now.Before(k.Expires) {
			older = append(older, k)
		}
	}
	c.KeySHA256, c.Expires, c.OlderKeys = Hash(key), expires, older
	return c
}

// quote quotes a text for an error, if it is shorter than any key. A longer text may be a key
// in the wrong place.
func quote(text string) string {
	if len(text) > 24 {
		return "what is given"
	}
	return strconv.Quote(text)
}

// Check returns all faults of the client, joined into one error, or nil.
func (c Client) Check() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(wire.IsClientName(c.Name), "%s is not a client's name: give 1 to 64 letters, digits, dots, - and _", quote(c.Name))
	var hashes []string
	for _, key := range c.keys() {
		check(wire.IsKeyHash(key.SHA256), "key_sha256 is not a SHA-256 in lower-case hex: 64 digits")
		check(!slices.Contains(hashes, key.SHA256), "a key is given twice")
		hashes = append(hashes, key.SHA256)
	}
	check(c.Paths == nil || len(c.Paths) > 0, "the list of paths is empty: give paths, or leave it out, which allows all")
	for _, path := range c.Paths {
		check(wire.IsPathRule(path), "%s is not a path for a rule: give one such as /crm/v3/objects/contacts, of plain characters, without a slash at its end", quote(path))
	}
	check(c.DailyLimit >= 0, "the daily limit is negative: give a number of calls from 1 on")
	check(len(c.Portals) > 0, `no portals are given: give ids, or "*" for all`)
	for _, portal := range c.Portals {
		check(portal != AllPortals || len(c.Portals) == 1, `"*" is all portals: give no others beside it`)
		check(portal == AllPortals || hubspot.ValidPortal(portal), "%s is not a portal id", quote(portal))
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(c.Portals)))
	check(len(distinct) == len(c.Portals), "a portal is given twice")
	return errors.Join(errs...)
}

// MayUse reports whether the client may use the portal.
func (c *Client) MayUse(portal string) bool {
	return slices.Contains(c.Portals, portal) || slices.Equal(c.Portals, []string{AllPortals})
}

// OnlyPortal returns the client's portal if it may use exactly one. Otherwise it returns an
// empty string.
func (c *Client) OnlyPortal() string {
	if len(c.Portals) == 1 && c.Portals[0] != AllPortals {
		return c.Portals[0]
	}
	return ""
}

// NewKey returns a new client key: 256 random bits.
func NewKey() secret.Text {
	var bytes [32]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return secret.New(wire.KeyPrefix + base64.RawURLEncoding.EncodeToString(bytes[:]))
}

// IsKey reports whether a value has the form of a client key. The key need not be known.
func IsKey(value string) bool { return strings.HasPrefix(value, wire.KeyPrefix) }

// Hash returns the SHA-256 of a key, in hex.
func Hash(key secret.Text) string {
	sum := sha256.Sum256([]byte(key.Reveal()))
	return hex.EncodeToString(sum[:])
}
