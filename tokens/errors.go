package tokens

import (
	"errors"
	"fmt"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

var (
	// ErrNotConnected: no credential is stored for the portal.
	ErrNotConnected = errors.New("no credential is stored for the portal")

	// ErrNoOther: there is no other credential than the rejected one, and it
	// is not yet time to ask for one.
	ErrNoOther = errors.New("there is no other credential than the rejected one")

	errExpired = errors.New("the access token has expired")
	errLost    = errors.New("the data in Redis was lost a moment ago; processes write back what they hold")
	errPutOff  = errors.New("Redis is read-only, and the access token lives on: it is renewed later")
	errClosed  = errors.New("the process is ending")
)

// An EndedError says that HubSpot refuses the portal's grant. Connecting the portal
// again helps.
type EndedError struct {
	Portal string
	Code   string // HubSpot's, such as BAD_REFRESH_TOKEN

	// Since is when HubSpot refused the grant first; zero: not known.
	Since time.Time

	// Next is when the grant is tried again if the portal is called; zero: not
	// any more, unless the client id or secret changes.
	Next time.Time

	// Err is why a try just now has shown nothing. Nil: there was none.
	Err error
}

// Error names the portal and HubSpot's code.
func (e *EndedError) Error() string {
	text := fmt.Sprintf("HubSpot refuses the grant of portal %s (%s)", e.Portal, e.Code)
	if !e.Since.IsZero() {
		text += " since " + e.Since.UTC().Format(time.RFC3339)
	}
	if e.Err != nil {
		text += fmt.Sprintf("; it was tried again, and %v", e.Err)
	}
	return text
}

// An UnavailableError says that there is no credential now, because Redis or
// HubSpot's token endpoint does not answer as it should, and that there may be
// one later.
type UnavailableError struct {
	Portal string

	// RetryAfter is when trying again may help; at least a second.
	RetryAfter time.Duration

	// Err is what is wrong. It holds no secret.
	Err error
}

// Error names the portal and what is wrong.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("no credential for portal %s: %v", e.Portal, e.Err)
}

// Unwrap returns what is wrong.
func (e *UnavailableError) Unwrap() error { return e.Err }

// unavailable makes an [UnavailableError] of what is wrong.
func unavailable(portal string, retryAfter time.Duration, err error) error {
	return &UnavailableError{Portal: portal, RetryAfter: max(retryAfter, time.Second), Err: err}
}

// IsRedisError reports whether an error means that Redis did not answer as it
// should. That something else than a record stands under a portal's key is no
// such error.
func IsRedisError(err error) bool {
	var failure *store.Error
	return errors.As(err, &failure) && !failure.OfRecord()
}
