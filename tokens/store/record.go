package store

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// schema is the version of the records' layout. Records of another version are neither used
// nor written.
const schema = "1"

// Kind is how a portal's calls are authenticated.
type Kind string

const (
	// OAuth means an access token that expires and is renewed with a refresh token.
	OAuth Kind = "oauth"

	// AccessToken means a static access token: that of a private app, or a service
	// key.
	AccessToken Kind = "access_token"

	// APIKey means a developer API key, which is sent in the query as hapikey.
	APIKey Kind = "api_key"
)

// State is whether a portal can be used.
type State string

const (
	Active  State = "active"  // the credential is used and renewed
	Ended   State = "ended"   // HubSpot has refused the grant
	Removed State = "removed" // a tombstone, which has no credential

	// Unusable is the state of a portal whose record is damaged or cannot be opened.
	// No record has this state.
	Unusable State = "unusable"

	// Rejected is the state of a portal whose static credential HubSpot rejects. No
	// record has this state: the record is active and has RejectedAt.
	Rejected State = "rejected"
)

// Cause is the reason of a renewal.
type Cause string

const (
	Expiry    Cause = "expiry"    // the access token was about to expire, or had expired
	Rejection Cause = "rejection" // HubSpot answered 401
)

// A Record is a portal's record as it is stored in Redis. The package comment explains the
// fields. Methods that change a Record return a changed copy.
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
	EndedAt    time.Time // zero means that the grant has not ended, or that the time is not known
	NotedAt    time.Time
	TriedWith  Tries
	App        string // client id; empty means not known
	Scopes     string // separated by spaces; empty means not known
	RejectedAt time.Time
	History    string // the last renewals; see WithEvent
	Seeds      string
	SetAt      time.Time // zero means not known

	// Outdated means that the stored record is not sealed with the current key.
	Outdated bool
}

// Newer reports whether r is newer than other, as the package comment defines it. The grant
// counts first: a portal that was set, connected or removed later is newer, however often the
// old grant was renewed. The time at which a record was written does not count.
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

// SameTokens reports whether r has the kind and the secrets of other.
func (r Record) SameTokens(other Record) bool {
	return r.Kind == other.Kind && r.Secret.Equal(other.Secret) && r.Refresh.Equal(other.Refresh)
}

// Expired reports whether r has no access token or key, or one that has expired at now.
func (r *Record) Expired(now time.Time) bool {
	return r.Secret.IsZero() || r.Kind == OAuth && !now.Before(r.ExpiresAt)
}

// FirstSeed reports whether r is a seed that was stored when Redis had no record: because the
// portal was new, or because Redis had lost its data.
func (r Record) FirstSeed() bool { return r.Grant == firstGrant && r.Generation == firstGrant }

// Seeded reports whether r's seeds include all seeds of other.
func (r Record) Seeded(other Record) bool {
	for seed := range strings.FieldsSeq(other.Seeds) {
		if !strings.Contains(r.Seeds, seed) {
			return false
		}
	}
	return true
}

// firstGrant is the grant and the generation of a seed that is stored when Redis has no record.
// If a process holds another record of the portal, that record is newer than the seed.
const firstGrant = 1

// fields returns the record as a list of field names and values for Redis. It leaves out the
// numbers and the seeds, which the script writes. Secrets are sealed for the portal.
func (r Record) fields(portal string, ring seal.Ring) []any {
	fields := []any{"schema", schema, "kind", string(r.Kind), "state", string(r.State)}
	set := func(name, value string) { fields = append(fields, name, value) }
	// All fields are written, also empty ones, to replace those of the former record.
	access, key := r.Secret, secret.Text{}
	if r.Kind == APIKey {
		access, key = key, access
	}
	set("name", r.Name)
	set("access_token", ring.Seal(portal, "access_token", access))
	set("api_key", ring.Seal(portal, "api_key", key))
	set("refresh_token", ring.Seal(portal, "refresh_token", r.Refresh))
	set("expires_at", millis(r.ExpiresAt))
	set("renewed_at", millis(r.RenewedAt))
	set("set_at", numberOf(r.SetAt, time.Time.UnixMicro))
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

// parseRecord parses the fields of a record. Errors name fields, never the value of a secret.
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
	setAt, setErr := parseTime(fields["set_at"], time.UnixMicro)
	r.SetAt = setAt
	if err := r.open(portal, fields, ring); err != nil {
		return Record{Name: r.Name, Kind: r.Kind, SetAt: setAt}, err // these fields are not sealed
	}
	r.App = r.appOf(fields["app"])
	var grantErr, err error
	r.Grant, grantErr = strconv.ParseInt(cmp.Or(fields["grant"], "0"), 10, 64) // records of earlier versions have none
	r.Generation, err = strconv.ParseInt(fields["generation"], 10, 64)
	err = errors.Join(err, setErr, grantErr)
	for name, t := range map[string]*time.Time{
		"expires_at": &r.ExpiresAt, "renewed_at": &r.RenewedAt, "ended_at": &r.EndedAt, "noted_at": &r.NotedAt, "rejected_at": &r.RejectedAt,
	} {
		var timeErr error
		*t, timeErr = parseTime(fields[name], time.UnixMilli)
		err = errors.Join(err, timeErr)
	}
	if err != nil || !isNumber(r.Generation) || !isNumber(r.Grant) {
		return Record{}, errors.New("the record has a damaged generation, grant, expires_at, renewed_at, set_at, ended_at, noted_at or rejected_at")
	}
	return r, r.Check()
}

// isNumber reports whether write.lua can calculate with n: Lua numbers are exact up to 2^53.
func isNumber(n int64) bool { return n >= 0 && n < 1<<53 }

// open opens the record's sealed secrets.
func (r *Record) open(portal string, fields map[string]string, ring seal.Ring) (err error) {
	own := secretField(r.Kind)
	if r.Secret, err = ring.Open(portal, own, fields[own]); err != nil {
		return err
	}
	r.Refresh, err = ring.Open(portal, "refresh_token", fields["refresh_token"])
	r.Outdated = !ring.Sealed(fields[own]) || !ring.Sealed(fields["refresh_token"])
	return err
}

// Check returns an error that names what the record lacks, or nil if the record can be used.
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

func millis(t time.Time) string { return numberOf(t, time.Time.UnixMilli) }

// numberOf returns a time as a decimal number, or "" for the zero time. unit converts a time to
// that number, such as [time.Time.UnixMilli] to milliseconds since 1970.
func numberOf(t time.Time, unit func(time.Time) int64) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(unit(t), 10)
}

// parseTime parses the result of numberOf. unit converts the number back, such as
// [time.UnixMilli].
func parseTime(s string, unit func(int64) time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return unit(n), err
}

// A NewerError means that a newer version of the program has written the record. This version
// neither uses nor replaces it.
type NewerError struct{ Schema string }

// Error names both versions of the layout.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the record has schema %q, of a newer version of this program, which itself knows schema %q: run the newer version", e.Schema, schema)
}
