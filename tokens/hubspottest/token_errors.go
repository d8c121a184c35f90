package hubspottest

import (
	"cmp"
	"io"
	"net/http"
)

// tokenError is the body of a failed token call in its current form.
type tokenError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Status      string `json:"status"`
	Message     string `json:"message"`
}

// oldTokenError is the body of a failed token call in the form that it had before 2026.
type oldTokenError struct {
	Status        string `json:"status"`
	Message       string `json:"message"`
	CorrelationID string `json:"correlationId"`
}

// tokenRateLimit is the body of the token endpoint's 429. The fields that are empty here
// are also empty in HubSpot's answer.
const tokenRateLimit = `{"status":"error","message":"You have reached your rate limit.","errorType":"RATE_LIMIT",` +
	`"correlationId":"","policyName":"SECONDLY","requestId":""}`

// tokenMessages returns the OAuth error and the message for a code, and the message from
// before 2026. Some of the messages were not seen in HubSpot's answers; clients must decide
// by the code anyway.
func tokenMessages(code string) (oauthError, message, oldMessage string) {
	switch code {
	case "BAD_REFRESH_TOKEN":
		return "invalid_grant", "refresh token is invalid, expired or revoked", "missing or invalid refresh token"
	case "BAD_AUTH_CODE":
		return "invalid_grant", "missing or unknown auth code", ""
	case "EXPIRED_AUTH_CODE":
		return "invalid_grant", "auth code is expired", ""
	case "BAD_CODE_VERIFIER":
		return "invalid_grant", "missing or invalid code verifier", ""
	case "BAD_REDIRECT_URI":
		return "invalid_grant", "missing or invalid redirect uri", ""
	case "BAD_CLIENT_ID":
		return "invalid_client", "missing or unknown client id", ""
	case "BAD_CLIENT_SECRET":
		return "invalid_client", "missing or invalid client secret", ""
	case "BAD_GRANT_TYPE":
		return "unsupported_grant_type", "missing or unknown grant type", ""
	case "BAD_SCOPES":
		return "invalid_scope", "missing or invalid scopes", ""
	case "BAD_HUB":
		return "access_denied", "missing or unknown hub id", ""
	}
	return "invalid_request", "the request is invalid", ""
}

// writeTokenFailure answers with the behaviour's Status, Code and Body.
func writeTokenFailure(w http.ResponseWriter, b TokenBehaviour) {
	if b.RetryAfter != "" {
		w.Header().Set("Retry-After", b.RetryAfter)
	}
	status := cmp.Or(b.Status, http.StatusBadRequest)
	switch {
	case b.Body != "":
		writeRawJSON(w, status, b.Body)
	case b.Code != "":
		writeTokenError(w, status, b.Code, b.OldShape)
	case status == http.StatusTooManyRequests:
		writeRawJSON(w, status, tokenRateLimit)
	default:
		w.WriteHeader(status)
	}
}

func writeTokenError(w http.ResponseWriter, status int, code string, oldShape bool) {
	oauthError, message, oldMessage := tokenMessages(code)
	if oldShape {
		message = cmp.Or(oldMessage, message)
		writeJSON(w, status, oldTokenError{Status: code, Message: message, CorrelationID: newCorrelationID()})
		return
	}
	writeJSON(w, status, tokenError{Error: oauthError, Description: message, Status: code, Message: message})
}

func writeRawJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
