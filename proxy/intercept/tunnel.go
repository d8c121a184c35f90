// Package intercept serves clients whose base URL cannot be changed. Such clients use the
// proxy as their HTTPS proxy. A CONNECT request opens a tunnel. The package ends the TLS
// inside the tunnel with a certificate of the operator's CA, and an [http.Server] serves the
// requests inside.
//
// The package knows nothing of portals and rights. The handler of the requests inside gets
// the data of the CONNECT request by [From].
package intercept

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// A Tunnel has the data of a CONNECT request.
type Tunnel struct {
	Name string      // host name of the CONNECT target, in lower case
	User string      // user name of Proxy-Authorization; empty means none
	Key  secret.Text // client key of Proxy-Authorization; empty means none
}

type tunnelKey struct{}

// From returns the tunnel that a request came through, or nil if it came through none. ctx
// is the request's context.
func From(ctx context.Context) *Tunnel {
	tunnel, _ := ctx.Value(tunnelKey{}).(*Tunnel)
	return tunnel
}

// LeadsTo reports whether a Host header names the tunnel's server.
func (t *Tunnel) LeadsTo(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, ":443"), t.Name)
}

// Credentials returns the user name and the key in the Proxy-Authorization fields of a
// CONNECT request. Basic has both, Bearer has only a key. Without such a field both are
// empty. ok is false if a field is malformed, or if two fields differ.
func Credentials(header http.Header) (user string, key secret.Text, ok bool) {
	for i, value := range header["Proxy-Authorization"] {
		nextUser, nextKey, ok := credentials(value)
		if !ok || i > 0 && (nextUser != user || !nextKey.Equal(key)) {
			return "", secret.Text{}, false
		}
		user, key = nextUser, nextKey
	}
	return user, key, true
}

func credentials(value string) (user string, key secret.Text, ok bool) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return "", secret.New(rest), rest != ""
	case strings.EqualFold(scheme, "Basic"):
		text, err := base64.StdEncoding.DecodeString(rest)
		user, password, _ := strings.Cut(string(text), ":")
		return user, secret.New(password), err == nil
	}
	return "", secret.Text{}, false
}
