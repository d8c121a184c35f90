package hubspottest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"
)

// An Echo says what the API received. Its zero value is no request at all.
type Echo struct {
	Method           string
	Target           string // of the request line, byte for byte
	Host             string
	Proto            string // such as HTTP/1.1
	Header           http.Header
	ContentLength    int64 // bytes announced; -1: none were
	TransferEncoding []string
	BodyBytes        int64  // bytes received
	BodySHA256       string // of those, in hex; of no bytes too
	Trailer          http.Header
	Portal           string // whose credential came; empty if none was asked for
	Credential       string // CredentialOAuth, CredentialAccessToken, CredentialAPIKey, or empty
}

// encodedEcho is an Echo as JSON. Where the target or a header is not UTF-8,
// JSON would mangle it: then each byte is written as the rune of that number.
type encodedEcho struct {
	Echo
	BytesAsRunes bool `json:",omitempty"`
}

// DecodeEcho reads an Echo from the body of an answer, with the very bytes of
// target and headers, be they UTF-8 or not. It does not close body.
func DecodeEcho(body io.Reader) (Echo, error) {
	var e encodedEcho
	if err := json.NewDecoder(body).Decode(&e); err != nil {
		return Echo{}, fmt.Errorf("decode the echo of the fake HubSpot: %w", err)
	}
	if e.BytesAsRunes {
		e.replace(runesToBytes)
	}
	return e.Echo, nil
}

func encode(e Echo) encodedEcho {
	encoded := encodedEcho{Echo: e}
	if !e.isUTF8() {
		encoded.BytesAsRunes = true
		encoded.replace(bytesToRunes)
	}
	return encoded
}

func (e *Echo) isUTF8() bool {
	valid := utf8.ValidString(e.Target)
	for _, header := range []http.Header{e.Header, e.Trailer} {
		for _, values := range header {
			for _, value := range values {
				valid = valid && utf8.ValidString(value)
			}
		}
	}
	return valid
}

// replace changes target, header and trailer values. It copies, because the
// server still uses the headers of the request.
func (e *Echo) replace(change func(string) string) {
	e.Target = change(e.Target)
	e.Header, e.Trailer = e.Header.Clone(), e.Trailer.Clone()
	for _, header := range []http.Header{e.Header, e.Trailer} {
		for _, values := range header {
			for i, value := range values {
				values[i] = change(value)
			}
		}
	}
}

func bytesToRunes(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

func runesToBytes(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// receivedBody is what is kept of a request body.
type receivedBody struct {
	bytes  int64
	sha256 string // hex
}

// readBody reads the request body to its end, in constant memory. It ends the
// handler if the client leaves.
func readBody(r *http.Request) receivedBody {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return receivedBody{bytes: n, sha256: hex.EncodeToString(sum.Sum(nil))}
}

// writeEcho is the default answer of the API, to be read by people too.
func writeEcho(w http.ResponseWriter, r *http.Request, v verdict, body receivedBody) {
	var text bytes.Buffer
	_ = json.Indent(&text, marshal(encode(echo(r, v, body))), "", "  ") // valid JSON, as it was just made
	writeBody(w, http.StatusOK, nil, text.Bytes())
}

func echo(r *http.Request, v verdict, body receivedBody) Echo {
	return Echo{
		Method:           r.Method,
		Target:           r.RequestURI,
		Host:             r.Host,
		Proto:            r.Proto,
		Header:           r.Header,
		ContentLength:    r.ContentLength,
		TransferEncoding: r.TransferEncoding,
		BodyBytes:        body.bytes,
		BodySHA256:       body.sha256,
		Trailer:          r.Trailer,
		Portal:           v.portal,
		Credential:       v.kind,
	}
}
