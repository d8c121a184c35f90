package hubspot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// An Error describes a call of HubSpot's OAuth endpoints that failed. Its text contains
// no secret, and nothing of HubSpot's answer except the status and the code.
type Error struct {
	// Status is the HTTP status. 0 means that there was no answer.
	Status int

	// Code is the answer's `status`, such as BAD_REFRESH_TOKEN, or otherwise its
	// `error` (RFC 6749 section 5.2). Empty means that the answer has neither. A code
	// has at most 40 ASCII letters and underscores.
	Code string

	// Message is HubSpot's message for the person who connects a portal. Do not log
	// it, because HubSpot may put anything into it. The error's text does not contain
	// it.
	Message string

	// RetryAfter is the time that HubSpot's Retry-After header field asks to wait. 0
	// means that the answer has none.
	RetryAfter time.Duration

	// Problem describes the failure if there is no Code. It quotes nothing of the
	// answer.
	Problem string

	// Kind is what the error means for further renewals.
	Kind Kind

	cause error
}

// Kind is what an [Error] means for further renewals.
type Kind int

const (
	// Transient means that a later call may succeed. Transient is the zero value, and
	// the kind of every error that is not known to be permanent.
	Transient Kind = iota

	// GrantEnded means that HubSpot refuses the refresh token. Usually the app was
	// removed from the portal or its grant was revoked, and a person has to connect
	// the portal again.
	GrantEnded

	// AppRefused means that HubSpot refuses the client id or the client secret.
	// Calls for all portals fail until the operator corrects the settings.
	AppRefused
)

// Error describes the failure in one line without secrets.
func (e *Error) Error() string {
	text := "HubSpot's token endpoint: "
	switch {
	case e.Code != "":
		text += fmt.Sprintf("%s (HTTP %d)", e.Code, e.Status)
	case e.Problem == "":
		text += fmt.Sprintf("HTTP %d", e.Status)
	case e.Status == 0 || e.Status == http.StatusOK:
		text += e.Problem
	default:
		text += fmt.Sprintf("%s (HTTP %d)", e.Problem, e.Status)
	}
	if e.cause != nil {
		text += ": " + secret.Cause(e.cause).Error()
	}
	return text
}

// Unwrap returns the error of the connection or of the context. nil means that HubSpot
// answered.
func (e *Error) Unwrap() error { return e.cause }

// refusal returns the error for an answer whose status is not 200. HubSpot's answers have
// two forms: {"status":…,"message":…}, and since January 2026 also OAuth's "error" and
// "error_description". HubSpot has changed the texts of messages, so nothing depends on
// them.
// https://developers.hubspot.com/changelog/new-oauth-v3-api-endpoints-and-standardized-error-responses
func refusal(res *http.Response, body []byte) *Error {
	e := &Error{Status: res.StatusCode, RetryAfter: retryAfter(res.Header.Get("Retry-After"))}
	var answer struct {
		Status  string `json:"status"`
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	// An answer that is not JSON, such as the web page of HubSpot's edge, has no code.
	_ = json.Unmarshal(body, &answer)
	e.Message = answer.Message
	for _, code := range []string{answer.Status, answer.Error} {
		if !shortCode.MatchString(code) || code == "error" {
			continue
		}
		if e.Code == "" {
			e.Code = code
		}
		if kind, known := kinds[code]; known && lasting(res.StatusCode) {
			e.Kind = kind
			break
		}
	}
	return e
}

// kinds has the codes of permanent errors: a later call cannot succeed.
var kinds = map[string]Kind{
	"BAD_REFRESH_TOKEN":   GrantEnded,
	"BAD_HUB":             GrantEnded,
	"invalid_grant":       GrantEnded,
	"BAD_CLIENT_ID":       AppRefused,
	"BAD_CLIENT_SECRET":   AppRefused,
	"invalid_client":      AppRefused,
	"unauthorized_client": AppRefused,
}

// lasting reports whether an answer with this status can be a permanent error. A 429 or
// 5xx is transient, whatever code the body has.
func lasting(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests
}

// shortCode matches a code that may be logged. Other texts may contain secrets.
var shortCode = regexp.MustCompile(`^[A-Za-z_]{1,40}$`)

// retryAfter parses a Retry-After header field, in seconds or as a date (RFC 9110 section
// 10.2.3). It returns 0 for an invalid value and for a date in the past.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}
