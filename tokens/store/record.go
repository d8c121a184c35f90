package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// schema is the version of the records' layout. A record of another version
// is neither read nor written.
const schema = "1"

// Kind is how a portal's calls are authenticated.
type Kind string

const (
	// OAuth is an access token that expires and is renewed.
	OAuth Kind = "oauth"

	// AccessToken is a static one: a private app's or a service key.
	AccessToken Kind = "access_token"

	// APIKey goes into the query, as hapikey.
	APIKey Kind = "api_key"
)

// State is whether a portal can be used.
type State string

const (
	Active  State = "active"  // its credential serves, or is renewed
	Ended   State = "ended"   // HubSpot has ended the grant
	Removed State = "removed" // a tombstone, which has no credential

	// Unusable is in no record: the record is damaged, or does not open.
	Unusable State = "unusable"

	// Rejected is in no record: a record whose static credential HubSpot rejects
	// is active and has RejectedAt.
	Rejected State = "rejected"
)

// Cause is what a renewal was done for.
type Cause string

const (
	Expiry    Cause = "expiry"    // its time had come
	Rejection Cause = "rejection" // HubSpot answered 401
)

// A Record is a portal's record as Redis has it; the package comment explains
// the fields. It is a value: a change makes another one.
type Record struct {
	Secret     secret.Text // the access token or API key
	Refresh    secret.Text
	Kind       Kind
	State      State
	ExpiresAt  time.Time
	Grant      int64
	Generation int64
	Name       string // for people
	RenewedAt  time.Time
	RenewedFor Cause
	EndedCode  string
	EndedAt    time.Time // zero: not known, or not ended
	NotedAt    time.Time
	TriedWith  Tries
	App        string // client id; empty: not known
	Scopes     string // with spaces in between; empty: not known
	RejectedAt time.Time
	History    string // the last renewals; see Noted
	Seeds      string
	SetAt      time.Time // zero: not known

	// Outdated reports that the record, as it is stored, is not sealed with
	// the key that seals now.
	Outdated bool
}

// Newer reports whether r came into being after other. The grant counts first:
// however often an old grant was renewed, what was set, connected or removed
// later is newer. Neither number says anything about when a record was written.
func (r Record) Newer(other Record) bool {
	switch {
	case r.Grant != other.Grant:
		return r.Grant > other.Grant
	case r.Generation != other.Generation:
		return r.Generation > other.Generation
	}
	if r.State == other.State {
		return r.NotedAt.After(other.NotedAt)
	}
	return r.State == Ended && other.State == Active
}

// SameTokens reports whether r has the access and refresh token of other.
func (r Record) SameTokens(other Record) bool {
	return r.Kind == other.Kind && r.Secret.Equal(other.Secret) && r.Refresh.Equal(other.Refresh)
}

// Expired reports whether r has no secret that HubSpot would accept at now.
func (r *Record) Expired(now time.Time) bool {
	return r.Secret.IsZero() || r.Kind == OAuth && !now.Before(r.ExpiresAt)
}

// FirstSeed reports whether r is a seed that was stored where Redis had no
// record: that may have been the first time, or after a loss of data.
func (r Record) FirstSeed() bool { return r.Grant == firstGrant && r.Generation == firstGrant }

// Seeded reports whether each value that was seeded for other was also seeded
// for r.
func (r Record) Seeded(other Record) bool {
	for seed := range strings.FieldsSeq(other.Seeds) {
		if !strings.Contains(r.Seeds, seed) {
			return false
		}
	}
	return true
}

// firstGrant numbers a seed that is stored where Redis has no record: whatever
// a process holds of the portal is newer.
const firstGrant = 1

// fields returns the record as a list of Redis' field names and values, except
// the numbers and the seeds, which the script writes. Secrets are
// sealed for the portal.
func (r Record) fields(portal string, ring seal.Ring) []any {
	fields := []any{"schema", schema, "kind", string(r.Kind), "state", string(r.State)}
	set := func(name, value string) { fields = append(fields, name, value) }
	set("name", r.Name)
	// All fields are written, so that nothing of the former record is left.
	access, key := r.Secret, secret.Text{}
	if r.Kind == APIKey {
		access, key = key, access
	}
	set("access_token", ring.Seal(portal, "access_token", access))
	set("api_key", ring.Seal(portal, "api_key", key))
	set("refresh_token", ring.Seal(portal, "refresh_token", r.Refresh))
	set("expires_at", millis(r.ExpiresAt))
	set("renewed_at", millis(r.RenewedAt))
	set("set_at", micros(r.SetAt))
	set("renewed_for", string(r.RenewedFor))
	set("ended_code", r.EndedCode)
	set("ended_at", millis(r.EndedAt))
	set("noted_at", millis(r.NotedAt))
	set("tried_with", string(r.TriedWith))
	set("app", r.ownApp())
	set("scopes", r.Scopes)
	set("rejected_at", millis(r.RejectedAt))
	set("history", r.History)
	return fields
}

// parseRecord reads the fields that fields wrote. Its errors name a field, and
// never its value.
func parseRecord(portal string, fields map[string]string, ring seal.Ring) (Record, error) {
	v := fields["schema"]
	if n, err := strconv.Atoi(v); err == nil && n > 1 {
		return Record{}, &NewerError{Schema: v}
	}
	if v != schema {
		return Record{}, fmt.Errorf("the record has schema version %q, this program knows %q: run the version that wrote it", v, schema)
	}
	r := Record{
		Name:       fields["name"],
		Kind:       Kind(fields["kind"]),
		State:      State(fields["state"]),
		RenewedFor: Cause(fields["renewed_for"]),
		EndedCode:  fields["ended_code"],
		TriedWith:  Tries(fields["tried_with"]),
		Scopes:     fields["scopes"],
		History:    fields["history"],
		Seeds:      fields["seeds"],
	}
	if err := r.open(portal, fields, ring); err != nil {
		setAt, _ := parseMicros(fields["set_at"])
		return Record{Name: r.Name, Kind: r.Kind, SetAt: setAt}, err // which are not sealed
	}
	r.App = r.appOf(fields["app"])
	var errs [8]error
	r.Generation, errs[0] = strconv.ParseInt(fields["generation"], 10, 64)
	r.ExpiresAt, errs[1] = parseMillis(fields["expires_at"])
	r.RenewedAt, errs[2] = parseMillis(fields["renewed_at"])
	r.SetAt, errs[3] = parseMicros(fields["set_at"])
	r.Grant, errs[4] = parseGrant(fields["grant"])
	r.EndedAt, errs[5] = parseMillis(fields["ended_at"])
	r.NotedAt, errs[6] = parseMillis(fields["noted_at"])
	r.RejectedAt, errs[7] = parseMillis(fields["rejected_at"])
	if err := errors.Join(errs[:]...); err != nil || !isNumber(r.Generation) || !isNumber(r.Grant) {
		return Record{}, errors.New("the record has a damaged generation, grant, expires_at, renewed_at, set_at, ended_at, noted_at or rejected_at")
	}
	return r, r.Check()
}

// parseGrant reads a grant's number. Records of versions that did not number
// grants have none.
func parseGrant(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// isNumber reports whether n is a number that write.lua can calculate with: a
// Lua number is exact up to 2^53.
func isNumber(n int64) bool { return n >= 0 && n < 1<<53 }

// open takes in the record's secrets.
func (r *Record) open(portal string, fields map[string]string, ring seal.Ring) (err error) {
	own := secretField(r.Kind)
	if r.Secret, err = ring.Open(portal, own, fields[own]); err != nil {
		return err
	}
	r.Refresh, err = ring.Open(portal, "refresh_token", fields["refresh_token"])
	r.Outdated = !ring.Sealed(fields[own]) || !ring.Sealed(fields["refresh_token"])
	return err
}

// Check returns what a record lacks to be used.
func (r Record) Check() error {
	switch r.State {
	case Removed:
		return nil
	case Active, Ended:
	default:
		return fmt.Errorf("the record has an unknown state %q", r.State)
	}
	switch r.Kind {
	case OAuth:
		if r.Refresh.IsZero() {
			return errors.New("the record has no refresh_token")
		}
	case AccessToken, APIKey:
		if r.Secret.IsZero() {
			return fmt.Errorf("the record has no %s", secretField(r.Kind))
		}
	default:
		return fmt.Errorf("the record has an unknown kind %q", r.Kind)
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
