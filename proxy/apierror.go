package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// maxErrorBody is how much of an error's body is looked at, in bytes: all that
// HubSpot has to say fits in it.
const maxErrorBody = 64 << 10

// apiError is what the proxy needs to know of HubSpot's errors.
type apiError struct {
	Category   string `json:"category"`   // of a 401, and of some 429s
	PolicyName string `json:"policyName"` // of a 429
}

// readCategory reads the category of a 401, and leaves the response as it came.
// It is empty if it cannot be made out, or does not come in time.
func readCategory(response *http.Response) string { return readError(response).Category }

// readError is readCategory for all that the proxy needs to know.
func readError(response *http.Response) (e apiError) {
	body := newErrorBody(response.Body)
	response.Body = body
	if head, whole := body.beginning(); whole {
		e = parseError(head, response.Header)
	}
	return e
}

// parseError reads an error's body, as far as it can be made out.
func parseError(body []byte, header http.Header) (e apiError) {
	_ = json.Unmarshal(plain(body, header.Get("Content-Encoding")), &e)
	return e
}

// plain undoes gzip, which is the one encoding that every client of HubSpot's
// asks for; others are left as they are.
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
