package hubspottest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// An Echo is the request that the API received.
type Echo struct {
	Method           string
	Target           string // the request line's target, byte for byte
	Host             string
	Proto            string // such as HTTP/1.1
	Header           http.Header
	ContentLength    int64 // bytes announced; -1 means that no length was announced
	TransferEncoding []string
	BodyBytes        int64  // bytes received
	BodySHA256       string // the hash of the bytes received, in hex, also of an empty body
	Trailer          http.Header
	Portal           string // the credential's portal; empty if the path requires no credential
	Credential       string // CredentialOAuth, CredentialAccessToken, CredentialAPIKey, or empty
}

// DecodeEcho reads an Echo from the body of an answer. The target and the headers of the
// Echo are byte for byte as received, also if they are not UTF-8. DecodeEcho does not close
// body.
func DecodeEcho(body io.Reader) (Echo, error) {
	var e Echo
	if err := json.NewDecoder(body).Decode(&e); err != nil {
		return Echo{}, fmt.Errorf("decode the echo of the fake HubSpot: %w", err)
	}
	e.replace(runesToBytes)
	return e, nil
}

// replace changes the target and the values of headers and trailers. It copies the
// headers, because the server still uses those of the request.
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

// receivedBody has the length and the hash of a request's body.
type receivedBody struct {
	bytes  int64
	sha256 string // hex
}

// readBody reads the request's body to its end, in constant memory. If the client
// disconnects, readBody panics with http.ErrAbortHandler, which ends the handler.
func readBody(r *http.Request) receivedBody {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return receivedBody{bytes: n, sha256: hex.EncodeToString(sum.Sum(nil))}
}

// writeEcho writes the API's default answer, indented so that people can read it.
func writeEcho(w http.ResponseWriter, r *http.Request, v verdict, body receivedBody) {
	e := echo(r, v, body)
	// JSON cannot hold text that is not UTF-8, so each byte is written as the rune with its number.
	e.replace(bytesToRunes)
	var text bytes.Buffer
	_ = json.Indent(&text, marshal(e), "", "  ") // valid JSON, as it was just made
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

// Observe makes the server call see for every API request and every call of the token
// endpoint that arrives from now on, before the server answers it. Requests that are
// answered 401 are reported too, with the portal of their credential. The [Echo] has
// nothing about the body and the trailers. The server may call see from several goroutines
// at once. If see is nil, the reports end.
func (s *Server) Observe(see func(Echo)) { s.observer.Store(&see) }

func (s *Server) observe(r *http.Request, v verdict) {
	if see := s.observer.Load(); see != nil && *see != nil {
		e := echo(r, v, receivedBody{})
		e.Trailer = nil // filled while the body is read
		(*see)(e)
	}
}
