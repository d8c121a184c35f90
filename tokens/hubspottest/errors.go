package hubspottest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
)

// apiError is HubSpot's general error body. The fields have the order of HubSpot's answers.
type apiError struct {
	Status        string              `json:"status"`
	Message       string              `json:"message"`
	ErrorType     string              `json:"errorType,omitempty"`
	CorrelationID string              `json:"correlationId"`
	Category      string              `json:"category,omitempty"`
	PolicyName    string              `json:"policyName,omitempty"`
	GroupName     string              `json:"groupName,omitempty"`
	RequestID     string              `json:"requestId,omitempty"`
	Context       map[string][]string `json:"context,omitempty"`
	Links         map[string]string   `json:"links,omitempty"`
}

func invalidCredential() apiError {
	return apiError{
		Status: "error",
		Message: "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find" +
			" more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
		CorrelationID: newCorrelationID(),
		Category:      "INVALID_AUTHENTICATION",
	}
}

func expiredCredential(expired, now time.Time) apiError {
	return apiError{
		Status:        "error",
		Message:       "The OAuth token used to make this call expired " + ago(now.Sub(expired)) + " ago.",
		CorrelationID: newCorrelationID(),
		Category:      "EXPIRED_AUTHENTICATION",
		Context:       map[string][]string{"expire time": {expired.UTC().Format("2006-01-02T15:04:05.000Z")}},
	}
}

// ago returns a duration as HubSpot writes it: in the largest whole unit.
func ago(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%d day(s)", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d hour(s)", d/time.Hour)
	case d >= time.Minute:
		return fmt.Sprintf("%d minute(s)", d/time.Minute)
	}
	return fmt.Sprintf("%d second(s)", d/time.Second)
}

func invalidAPIKey() apiError {
	const link = "https://app.hubspot.com/l/api-key/"
	return apiError{
		Status:        "error",
		Message:       "The API key provided is invalid. View or manage your API key here: " + link,
		CorrelationID: newCorrelationID(),
		Category:      "INVALID_AUTHENTICATION",
		Links:         map[string]string{"api key": link},
	}
}

func burstLimit(portal string) apiError {
	return apiError{
		Status:        "error",
		Message:       "You have reached your ten_secondly_rolling limit.",
		ErrorType:     "RATE_LIMIT",
		CorrelationID: newCorrelationID(),
		PolicyName:    "TEN_SECONDLY_ROLLING",
		GroupName:     "publicapi:private_app-api-calls-ten-secondly:1111111:" + portal,
	}
}

func otherStatus(code int) apiError {
	return apiError{
		Status:        "error",
		Message:       fmt.Sprintf("The fake was asked for status %d.", code),
		CorrelationID: newCorrelationID(),
	}
}

// newCorrelationID returns a random id in the form of a UUID.
func newCorrelationID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
