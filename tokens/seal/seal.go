// Package seal encrypts the secrets that are stored in Redis. Each sealed value is bound to
// its portal and field. The keys can be rotated while the program runs.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// prefix begins every sealed value. No credential of HubSpot's begins with it.
const prefix = "sealed:"

// keySize is the size of a key in bytes, for AES-256.
const keySize = 32

var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// plain is the entry of ENCRYPTION_KEYS that means values that are not sealed.
const plain = "plain"

// A Ring is an ordered list of keys. The first one seals, and all of them open. The zero
// value has no keys: values are then stored and read without sealing. A Ring is immutable
// and safe for concurrent use.
type Ring struct {
	keys []key // the entry plain has no bytes
}

type key struct {
	id    string
	bytes secret.Text
}

// Parse parses a comma-separated list. Each entry is a key (an id, a colon, and 32 bytes in
// base64) or the word plain. If plain is the first entry, values are stored without sealing.
// Values that are not sealed are used only if plain is in the list. An empty list is a Ring
// without keys. Errors may contain an id, never a key.
func Parse(list secret.Text) (Ring, error) {
	var ring Ring
	if list.IsZero() {
		return ring, nil
	}
	for i, item := range strings.Split(list.Reveal(), ",") {
		id, encoded, found := strings.Cut(strings.TrimSpace(item), ":")
		if _, known := ring.find(id); known {
			return Ring{}, fmt.Errorf("the id %q is given twice", id)
		}
		if id == plain && !found {
			ring.keys = append(ring.keys, key{id: plain})
			continue
		}
		if id == plain {
			return Ring{}, errors.New("no key can have the id plain; plain is an entry of its own, without a key, for values that are not sealed")
		}
		if !found || !keyID.MatchString(id) {
			return Ring{}, fmt.Errorf("key %d is not id:key, with an id of letters, digits, - and _", i+1)
		}
		bytes, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(bytes) != keySize {
			return Ring{}, fmt.Errorf("the key %q is not base64 of %d bytes", id, keySize)
		}
		ring.keys = append(ring.keys, key{id: id, bytes: secret.New(string(bytes))})
	}
	return ring, nil
}

// Generate returns a new random key in the form that [Parse] reads.
func Generate(id string) (secret.Text, error) {
	if !keyID.MatchString(id) || id == plain {
		return secret.Text{}, errors.New("a key's id has 1 to 32 letters, digits, - and _, and is not the word \"plain\"")
	}
	var bytes [keySize]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return secret.New(id + ":" + base64.StdEncoding.EncodeToString(bytes[:])), nil
}

// Opening returns a ring that seals like r and opens the values that other opens. Use Opening to
// change keys while processes are running: all processes must be able to open the values of a
// new key before one of them seals with that key.
func (r Ring) Opening(other Ring) Ring {
	if r.IsZero() {
		// r does not seal, so the result does not seal either. The result opens values
		// that are not sealed, and values that other processes have sealed since.
		return Ring{keys: append([]key{{id: plain}}, other.without(plain)...)}
	}
	return Ring{keys: append(r.keys[:1:1], other.without(r.keys[0].id)...)}
}

// without returns the ring's keys except one.
func (r Ring) without(id string) []key {
	return slices.DeleteFunc(slices.Clone(r.keys), func(k key) bool { return k.id == id })
}

// IsZero reports whether the ring has no keys.
func (r Ring) IsZero() bool { return len(r.keys) == 0 }

// Seals reports whether values are sealed before they are stored.
func (r Ring) Seals() bool { return !r.IsZero() && r.keys[0].id != plain }

// Current returns the id of the key that seals. It is empty if the ring does not seal.
func (r Ring) Current() string {
	if !r.Seals() {
		return ""
	}
	return r.keys[0].id
}

// IDs returns the ids of the ring's keys, in order; the first one seals. The id plain stands for no
// sealing, and is the only one of a ring without keys.
func (r Ring) IDs() []string {
	if r.IsZero() {
		return []string{plain}
	}
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

func (r Ring) find(id string) (key, bool) {
	for _, k := range r.keys {
		if k.id == id {
			return k, true
		}
	}
	return key{}, false
}

// Seal returns the text to store in the portal's field: the value sealed with the first key,
// or the value itself if the ring does not seal. An empty value stays empty.
func (r Ring) Seal(portal, field string, value secret.Text) string {
	if !r.Seals() || value.IsZero() {
		return value.Reveal()
	}
	k := r.keys[0]
	sealed := k.aead(portal).Seal(nil, nil, []byte(value.Reveal()), additional(portal, field))
	return prefix + k.id + ":" + base64.RawStdEncoding.EncodeToString(sealed)
}

// Open returns the value that is stored in the portal's field. It accepts a value that is
// not sealed only if the ring contains plain or has no keys. Otherwise anyone who can write
// to Redis could insert a credential. Errors are of type [*OpenError].
func (r Ring) Open(portal, field, stored string) (secret.Text, error) {
	rest, sealed := strings.CutPrefix(stored, prefix)
	if !sealed {
		if _, reads := r.find(plain); stored != "" && !reads && !r.IsZero() {
			return secret.Text{}, &OpenError{Portal: portal, Field: field}
		}
		return secret.New(stored), nil
	}
	id, encoded, _ := strings.Cut(rest, ":")
	fail := func(problem string) (secret.Text, error) {
		if !keyID.MatchString(id) {
			id = "?"
		}
		return secret.Text{}, &OpenError{Portal: portal, Field: field, Key: id, Problem: problem}
	}
	k, known := r.find(id)
	if !known || id == plain {
		return fail("is not among ENCRYPTION_KEYS")
	}
	bytes, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return fail("cannot open it: the value is damaged")
	}
	value, err := k.aead(portal).Open(nil, nil, bytes, additional(portal, field))
	if err != nil {
		return fail("cannot open it: the value is damaged, was sealed for another portal, or was sealed with another key of that id")
	}
	return secret.New(string(value)), nil
}

// Sealed reports whether a stored value is sealed with the ring's first key. An empty value
// counts as sealed.
func (r Ring) Sealed(stored string) bool {
	return stored == "" || r.Seals() && strings.HasPrefix(stored, prefix+r.keys[0].id+":")
}

// An OpenError reports a stored value that cannot be opened. It contains no secret. An empty
// Key means that the value is not sealed.
type OpenError struct {
	Portal, Field, Key, Problem string
}

// Error names the portal, the field and the key's id.
func (e *OpenError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s of portal %s is not sealed, so it is not used: add plain to the end of ENCRYPTION_KEYS, run keys rotate, and remove plain again", e.Field, e.Portal)
	}
	return fmt.Sprintf("%s of portal %s is sealed with key %q, which %s", e.Field, e.Portal, e.Key, e.Problem)
}

// aead returns the cipher for one portal. Each portal has its own key, derived from the
// ring's key (RFC 5869), so that one key never seals too many values for random nonces.
func (k key) aead(portal string) cipher.AEAD {
	derived := must(hkdf.Key(sha256.New, []byte(k.bytes.Reveal()), nil, "hubspot-auth-proxy portal "+portal, keySize))
	return must(cipher.NewGCMWithRandomNonce(must(aes.NewCipher(derived))))
}

// must returns v, and panics if there is an error. The functions of package crypto whose results
// it gets return errors only for wrong sizes, and all sizes in this package are constants.
func must[T any](v T, err error) T {
	if err != nil {
		panic("seal: " + err.Error())
	}
	return v
}

// additional returns the additional data that binds a sealed value to its portal and field.
func additional(portal, field string) []byte { return []byte(portal + "\x00" + field) }
