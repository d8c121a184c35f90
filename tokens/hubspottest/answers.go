package hubspottest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An APIError is HubSpot's general error body. The fields have the order of HubSpot's answers.
type APIError struct {
	Status        string              `json:"status"`
	Message       string              `json:"message"`
	ErrorType     string              `json:"errorType,omitempty"`
	CorrelationID string              `json:"correlationId"`
	Category      string              `json:"category,omitempty"`
	PolicyName    string              `json:"policyName,omitempty"`
	GroupName     string              `json:"groupName,omitempty"`
	Context       map[string][]string `json:"context,omitempty"`
	Links         map[string]string   `json:"links,omitempty"`
}

func newError(e APIError) APIError {
	e.Status, e.CorrelationID = "error", newCorrelationID()
	return e
}

// WriteError answers with an error. It sets the error's Status and CorrelationID.
func WriteError(w http.ResponseWriter, status int, e APIError) { writeJSON(w, status, newError(e)) }

func invalidCredential() APIError {
	return newError(APIError{
		Message: "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find" +
			" more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
		Category: "INVALID_AUTHENTICATION",
	})
}

func expiredCredential(expired, now time.Time) APIError {
	return newError(APIError{
		Message:  fmt.Sprintf("The OAuth token used to make this call expired %d second(s) ago.", now.Sub(expired)/time.Second),
		Category: "EXPIRED_AUTHENTICATION",
		Context:  map[string][]string{"expire time": {expired.UTC().Format("2006-01-02T15:04:05.000Z")}},
	})
}

func invalidAPIKey() APIError {
	const link = "https://app.hubspot.com/l/api-key/"
	return newError(APIError{
		Message:  "The API key provided is invalid. View or manage your API key here: " + link,
		Category: "INVALID_AUTHENTICATION",
		Links:    map[string]string{"api key": link},
	})
}

// burstLimit returns HubSpot's answer to too many calls in ten seconds.
func burstLimit(portal string) APIError {
	return rateLimit("TEN_SECONDLY_ROLLING", "publicapi:private_app-api-calls-ten-secondly:1111111:"+portal)
}

// secondLimit returns HubSpot's answer to too many searches in a second.
func secondLimit(portal string) APIError {
	return rateLimit("SECONDLY", "publicapi:crm:search:oauth:1111111:"+portal)
}

func rateLimit(policy, group string) APIError {
	return newError(APIError{
		Message:    "You have reached your " + strings.ToLower(policy) + " limit.",
		ErrorType:  "RATE_LIMIT",
		PolicyName: policy,
		GroupName:  group,
	})
}

func otherStatus(code int) APIError {
	return newError(APIError{
		Message: fmt.Sprintf("The fake HubSpot answers with status %d.", code),
	})
}

// newCorrelationID returns a random id in the form of a UUID.
func newCorrelationID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

const jsonType = "application/json;charset=utf-8"

// writeJSON answers with a JSON body and its Content-Length.
func writeJSON(w http.ResponseWriter, status int, body any) {
	writeBody(w, status, body, marshal(body))
}

// writeBody sends encoded, which is body after encoding. As in HubSpot's answers, the header
// has the same correlation id as the body.
func writeBody(w http.ResponseWriter, status int, body any, encoded []byte) {
	correlation := newCorrelationID()
	if e, ok := body.(APIError); ok {
		correlation = e.CorrelationID
	}
	w.Header().Set("X-Hubspot-Correlation-Id", correlation)
	w.Header().Set("Content-Type", jsonType)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

// marshal returns body as JSON. It does not escape & and <, so that people who use curl
// can read targets.
func marshal(body any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic("hubspottest: " + err.Error()) // all bodies are the fake's own
	}
	return buffer.Bytes()
}

// refuseMethod answers a request that should be a POST.
func refuseMethod(w http.ResponseWriter) {
	w.Header().Set("Allow", http.MethodPost)
	writeJSON(w, http.StatusMethodNotAllowed, otherStatus(http.StatusMethodNotAllowed))
}
