package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"time"
)

// maxErrorBody is how much of an error's body is parsed, in bytes. HubSpot's errors are
// shorter.
const maxErrorBody = 64 << 10

// categoryTimeout is how long the proxy waits for the body of a 401 to read its category.
const categoryTimeout = time.Second

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

// errorBody is the body of an error whose beginning was read ahead. Read returns all bytes
// of the body from the beginning.
type errorBody struct {
	io.ReadCloser        // what was not read ahead
	onWait        func() // nil means no callback

	head    []byte          // bytes read ahead that Read has not returned yet
	err     error           // the error that ended reading ahead
	pending <-chan readPart // the Read that was in progress at the timeout; nil means none
}

// readPart is what a Read has returned.
type readPart struct {
	data []byte
	err  error
}

// readBeginning reads up to maxErrorBody bytes of a body ahead. whole is false if neither
// these bytes nor the body's end arrived within categoryTimeout, because no client should
// wait longer for an answer whose body is slow.
func readBeginning(body io.ReadCloser) (e *errorBody, whole bool) {
	e = &errorBody{ReadCloser: body}
	buffer, parts := make([]byte, 4<<10), make(chan readPart, 1)
	timeout := time.NewTimer(categoryTimeout)
	defer timeout.Stop()
	for len(e.head) < maxErrorBody && e.err == nil {
		most := min(len(buffer), maxErrorBody-len(e.head))
		go func() {
			n, err := body.Read(buffer[:most])
			parts <- readPart{buffer[:n], err}
		}()
		select {
		case part := <-parts:
			e.head, e.err = append(e.head, part.data...), part.err
		case <-timeout.C:
			e.pending = parts
			return e, false
		}
	}
	return e, true
}

// OnWait implements upstream.Body.
func (e *errorBody) OnWait(f func()) { e.onWait = f }

// Read implements io.Reader.
func (e *errorBody) Read(p []byte) (int, error) {
	if len(e.head) == 0 && e.err == nil && e.onWait != nil {
		e.onWait()
	}
	if len(e.head) == 0 && e.pending != nil {
		part := <-e.pending
		e.head, e.err, e.pending = part.data, part.err, nil
	}
	switch {
	case len(e.head) > 0:
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	case e.err != nil:
		return 0, e.err
	}
	return e.ReadCloser.Read(p)
}
