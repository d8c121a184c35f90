package hubspot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// An Error is a call of the token endpoint that gave no token. Its text holds
// no secret: nothing of what HubSpot answered but its code, and that only if
// it looks like one.
type Error struct {
	// Status is the HTTP status, 0 if there was no answer.
	Status int

	// Code is HubSpot's `status`, such as BAD_REFRESH_TOKEN, else OAuth's
	// `error` (RFC 6749 section 5.2), else empty.
	Code string

	// Message is HubSpot's own, for the person who connects a portal. It is no
	// part of the error's text, and not to be logged: HubSpot may put anything
	// into it.
	Message string

	// RetryAfter is how long HubSpot asked to be left alone, 0 if it did not
	// say.
	RetryAfter time.Duration

	// Problem says what was wrong where there is no Code.
	Problem string

	// Kind is what the error means for renewing.
	Kind Kind

	cause error
}

// Kind is what an [Error] means for whoever renews a token.
type Kind int

const (
	// Transient: a later call may succeed. The zero value: what nobody knows
	// to be lasting is worth another try.
	Transient Kind = iota

	// GrantEnded: HubSpot will not take this refresh token again. The app was
	// removed from the portal, or its grant revoked; a person has to connect
	// the portal anew.
	GrantEnded

	// AppRefused: the client id or client secret is wrong, for every portal
	// alike, until the operator mends it.
	AppRefused
)

// Error says what happened, in one line.
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

// Unwrap returns the network's error, if it was one.
func (e *Error) Unwrap() error { return e.cause }

// refusal makes an error of an answer that is not 200. HubSpot answers in two
// shapes: {"status":…,"message":…} of old, and the same with OAuth's "error"
// and "error_description" since January 2026. The message's text has changed
// over the years, so nothing depends on it.
// https://developers.hubspot.com/changelog/new-oauth-v3-api-endpoints-and-standardized-error-responses
func refusal(res *http.Response, body []byte) *Error {
	e := &Error{Status: res.StatusCode, RetryAfter: retryAfter(res.Header.Get("Retry-After"))}
	var answer struct {
		Status  string `json:"status"`
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	// Answers that are no JSON, such as an edge's web page, have no code.
	_ = json.Unmarshal(body, &answer)
	e.Message = answer.Message
	for _, code := range []string{answer.Status, answer.Error} {
		if !looksLikeCode(code) || code == "error" {
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

// kinds has the codes that a later call of the same kind cannot cure.
var kinds = map[string]Kind{
	"BAD_REFRESH_TOKEN":   GrantEnded,
	"BAD_HUB":             GrantEnded,
	"invalid_grant":       GrantEnded,
	"BAD_CLIENT_ID":       AppRefused,
	"BAD_CLIENT_SECRET":   AppRefused,
	"invalid_client":      AppRefused,
	"unauthorized_client": AppRefused,
}

// lasting reports whether an answer of that status may be taken as HubSpot's
// last word. A 429 or 5xx is about the moment, whatever its body says.
func lasting(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests
}

// looksLikeCode keeps anything but a short code out of error texts and logs.
func looksLikeCode(s string) bool {
	if s == "" || len(s) > 40 {
		return false
	}
	for _, c := range s {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// retryAfter reads the header of that name, in seconds or as a date (RFC 9110
// section 10.2.3). What is not understood is 0.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}
