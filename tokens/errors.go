package tokens

import (
	"errors"
	"fmt"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

var (
	// ErrNotConnected means that no credential is stored for the portal.
	ErrNotConnected = errors.New("no credential is stored for the portal")

	// ErrNoOther means that there is no credential other than the rejected one, and that
	// it is too early to renew it.
	ErrNoOther = errors.New("there is no other credential than the rejected one")

	errExpired   = errors.New("the access token has expired")
	errPostponed = errors.New("the renewal is postponed, because Redis refuses writes and the access token is still valid")
	errClosed    = errors.New("the process is ending")
	errNoApp     = errors.New("set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to renew OAuth tokens")
)

// An EndedError means that HubSpot refuses the portal's grant. The portal works again when it
// is connected again, or when HubSpot accepts the grant in a later try.
type EndedError struct {
	Portal string
	Code   string // HubSpot's code, such as BAD_REFRESH_TOKEN

	// Since is the time at which HubSpot first refused the grant. Zero means not known.
	Since time.Time

	// Next is the time from which the next call of the portal tries the grant again.
	// Zero means that the grant is not tried again unless the client id or secret
	// changes.
	Next time.Time

	// Err is the error of a try just now in which HubSpot neither accepted nor refused
	// the grant. nil means that there was no such try.
	Err error
}

// Error names the portal and HubSpot's code.
func (e *EndedError) Error() string {
	text := fmt.Sprintf("HubSpot refuses the grant of portal %s (%s)", e.Portal, e.Code)
	if !e.Since.IsZero() {
		text += " since " + e.Since.UTC().Format(time.RFC3339)
	}
	if e.Err != nil {
		text += fmt.Sprintf("; the grant was tried again, and %v", e.Err)
	}
	return text
}

// An EmptiedError means that Redis has lost its data, or was used for the first time, a moment
// ago. Redis has no record of the portal, and another process may still write the record back.
type EmptiedError struct {
	Ago time.Duration // since Redis was found empty, by Redis' clock
}

// Error says how long ago Redis was found empty.
func (e *EmptiedError) Error() string {
	return fmt.Sprintf("Redis was emptied, or used for the first time, %.0f s ago, and has no record of the portal; another process may still write the record back", e.Ago.Seconds())
}

// An UnavailableError means that there is no credential now, because Redis or HubSpot's token
// endpoint does not answer or has failed, or because Redis has just been emptied (an
// [*EmptiedError]). A later call may succeed.
type UnavailableError struct {
	Portal string

	// RetryAfter is the time after which another try may succeed: at least a second.
	RetryAfter time.Duration

	// Err is the cause. Its text contains no secret.
	Err error
}

// Error names the portal and the cause.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("no credential for portal %s: %v", e.Portal, e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// unavailable returns an [*UnavailableError] with at least a second of RetryAfter.
func unavailable(portal string, retryAfter time.Duration, err error) error {
	return &UnavailableError{Portal: portal, RetryAfter: max(retryAfter, time.Second), Err: err}
}

// IsRedisError reports whether an error means that Redis did not answer, or answered with an
// error. It returns false if a portal's key holds something other than a record.
func IsRedisError(err error) bool {
	failure, is := errors.AsType[*store.Error](err)
	return is && !failure.OfRecord()
}
