package hubspottest

import (
	"cmp"
	"io"
	"net/http"
)

// tokenRateLimit is the body of the token endpoint's 429. The fields that are empty here
// are also empty in HubSpot's answer.
const tokenRateLimit = `{"status":"error","message":"You have reached your rate limit.","errorType":"RATE_LIMIT",` +
	`"correlationId":"","policyName":"SECONDLY","requestId":""}`

// tokenProblems has the OAuth error and the message for each code. Some of the messages were
// not seen in HubSpot's answers; clients must decide by the code anyway.
var tokenProblems = map[string]struct{ oauth, message string }{
	"BAD_REFRESH_TOKEN": {"invalid_grant", "refresh token is invalid, expired or revoked"},
	"BAD_AUTH_CODE":     {"invalid_grant", "missing or unknown auth code"},
	"EXPIRED_AUTH_CODE": {"invalid_grant", "auth code is expired"},
	"BAD_CODE_VERIFIER": {"invalid_grant", "missing or invalid code verifier"},
	"BAD_REDIRECT_URI":  {"invalid_grant", "missing or invalid redirect uri"},
	"BAD_CLIENT_ID":     {"invalid_client", "missing or unknown client id"},
	"BAD_CLIENT_SECRET": {"invalid_client", "missing or invalid client secret"},
	"BAD_GRANT_TYPE":    {"unsupported_grant_type", "missing or unknown grant type"},
	"BAD_SCOPES":        {"invalid_scope", "missing or invalid scopes"},
	"BAD_HUB":           {"access_denied", "missing or unknown hub id"},
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

// writeTokenError answers with HubSpot's error of this code. oldShape means the form that
// errors had before 2026.
func writeTokenError(w http.ResponseWriter, status int, code string, oldShape bool) {
	problem, known := tokenProblems[code]
	if !known {
		problem.oauth, problem.message = "invalid_request", "the request is invalid"
	}
	body := map[string]string{"status": code, "message": problem.message}
	switch {
	case !oldShape:
		body["error"], body["error_description"] = problem.oauth, problem.message
	case code == "BAD_REFRESH_TOKEN":
		body["message"] = "missing or invalid refresh token"
		fallthrough
	default:
		body["correlationId"] = newCorrelationID()
	}
	writeJSON(w, status, body)
}

func writeRawJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
