package tokens

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// schema is the version of the records' layout. A record of another version
// is neither read nor written.
const schema = "1"

// state is whether a record can be used.
type state string

const (
	active  state = "active"
	ended   state = "ended"
	removed state = "removed"
)

// record is a portal's record as Redis has it; the package comment explains
// the fields. It is a value: a change makes another one. What each request looks
// at comes first, to lie together in the processor's cache.
type record struct {
	secret     secret.Text // the access token or API key
	kind       Kind
	expiresAt  time.Time
	state      state
	generation int64
	name       string // for people
	refresh    secret.Text
	renewedAt  time.Time
	renewedFor cause
	endedCode  string
	seeds      string
	setAt      time.Time // when it was set, seeded, connected or removed; zero: not known
	outdated   bool      // as stored, it is not sealed with the key that seals now
}

// newer reports whether r is what came after other.
func (r record) newer(other record) bool {
	if r.generation != other.generation {
		return r.generation > other.generation
	}
	return r.state == ended && other.state == active
}

// sameTokens reports whether r has the access and refresh token of other.
func (r record) sameTokens(other record) bool {
	return r.kind == other.kind && r.secret.Equal(other.secret) && r.refresh.Equal(other.refresh)
}

// expired reports whether r has no secret that HubSpot would accept at now.
func (r *record) expired(now time.Time) bool {
	return r.secret.IsZero() || r.kind == OAuth && !now.Before(r.expiresAt)
}

// fields returns the record as a list of Redis' field names and values, but
// for the generation and the seeds, which the script writes. Secrets are
// sealed for the portal.
func (r record) fields(portal string, ring seal.Ring) []any {
	fields := []any{"schema", schema, "kind", string(r.kind), "state", string(r.state)}
	set := func(name, value string) { fields = append(fields, name, value) }
	set("name", r.name)
	// All fields are written, so that nothing of the former record is left.
	access, key := r.secret, secret.Text{}
	if r.kind == APIKey {
		access, key = key, access
	}
	set("access_token", ring.Seal(portal, "access_token", access))
	set("api_key", ring.Seal(portal, "api_key", key))
	set("refresh_token", ring.Seal(portal, "refresh_token", r.refresh))
	set("expires_at", millis(r.expiresAt))
	set("renewed_at", millis(r.renewedAt))
	set("set_at", micros(r.setAt))
	set("renewed_for", string(r.renewedFor))
	set("ended_code", r.endedCode)
	return fields
}

// parseRecord reads the fields that fields wrote. Its errors name a field, and
// never its value.
func parseRecord(portal string, fields map[string]string, ring seal.Ring) (record, error) {
	if v := fields["schema"]; v != schema {
		return record{}, fmt.Errorf("the record has schema version %q, this program knows %q: run the version that wrote it", v, schema)
	}
	r := record{
		name:       fields["name"],
		kind:       Kind(fields["kind"]),
		state:      state(fields["state"]),
		renewedFor: cause(fields["renewed_for"]),
		endedCode:  fields["ended_code"],
		seeds:      fields["seeds"],
	}
	if err := r.open(portal, fields, ring); err != nil {
		setAt, _ := parseMicros(fields["set_at"])
		return record{name: r.name, kind: r.kind, setAt: setAt}, err // which are not sealed
	}
	var errs [4]error
	r.generation, errs[0] = strconv.ParseInt(fields["generation"], 10, 64)
	r.expiresAt, errs[1] = parseMillis(fields["expires_at"])
	r.renewedAt, errs[2] = parseMillis(fields["renewed_at"])
	r.setAt, errs[3] = parseMicros(fields["set_at"])
	if err := errors.Join(errs[:]...); err != nil || r.generation < 0 || r.generation >= maxGeneration {
		return record{}, errors.New("the record has a damaged generation, expires_at, renewed_at or set_at")
	}
	return r, r.check()
}

// open takes in the record's secrets.
func (r *record) open(portal string, fields map[string]string, ring seal.Ring) (err error) {
	own := secretField(r.kind)
	if r.secret, err = ring.Open(portal, own, fields[own]); err != nil {
		return err
	}
	r.refresh, err = ring.Open(portal, "refresh_token", fields["refresh_token"])
	r.outdated = !ring.Sealed(fields[own]) || !ring.Sealed(fields["refresh_token"])
	return err
}

// maxGeneration is what a Lua number holds exactly, which write.lua calculates
// with.
const maxGeneration = 1 << 53

// check reports what a record lacks to be used.
func (r record) check() error {
	switch r.state {
	case removed:
		return nil
	case active, ended:
	default:
		return fmt.Errorf("the record has an unknown state %q", r.state)
	}
	switch r.kind {
	case OAuth:
		if r.refresh.IsZero() {
			return errors.New("the record has no refresh_token")
		}
	case AccessToken, APIKey:
		if r.secret.IsZero() {
			return fmt.Errorf("the record has no %s", secretField(r.kind))
		}
	default:
		return fmt.Errorf("the record has an unknown kind %q", r.kind)
	}
	return nil
}

func secretField(kind Kind) string {
	if kind == APIKey {
		return "api_key"
	}
	return "access_token"
}

func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

func micros(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMicro(), 10)
}

func parseMicros(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	us, err := strconv.ParseInt(s, 10, 64)
	return time.UnixMicro(us), err
}

func parseMillis(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	return time.UnixMilli(ms), err
}
