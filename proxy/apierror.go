package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
)

// apiError has the fields of HubSpot's errors that the proxy needs.
type apiError struct {
	Category   string `json:"category"`   // of a 401, and of some 429s
	PolicyName string `json:"policyName"` // of a 429
}

// readCategory returns the category of a 401. It is empty if the body is not HubSpot's
// JSON, or does not arrive within categoryTimeout. The response's body can still be read
// from its beginning.
func readCategory(response *http.Response) string { return readError(response).Category }

// readError is like readCategory, and returns all fields that the proxy needs.
func readError(response *http.Response) (e apiError) {
	body, whole := readBeginning(response.Body)
	response.Body = body
	if whole {
		e = parseError(body.head, response.Header)
	}
	return e
}

// parseError parses an error's body. Fields that it cannot parse stay empty.
func parseError(body []byte, header http.Header) (e apiError) {
	_ = json.Unmarshal(plain(body, header.Get("Content-Encoding")), &e)
	return e
}

// plain decodes gzip, the one encoding that all SDKs of HubSpot ask for. It returns a
// body with another encoding unchanged.
func plain(body []byte, encoding string) []byte {
	if encoding != "gzip" {
		return body
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	decoded, err := io.ReadAll(io.LimitReader(reader, maxErrorBody))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return decoded
}

// categoryOf returns the category of an error if it has the form of HubSpot's, such as
// MISSING_SCOPES. Any other text may be an echo of a credential, and is dropped.
func categoryOf(e apiError) string {
	if !categoryForm.MatchString(e.Category) {
		return ""
	}
	return e.Category
}

var categoryForm = regexp.MustCompile(`^[A-Z][A-Z_]{0,63}$`)
