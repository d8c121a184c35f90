// Package intercept serves clients that have HubSpot's address built in and use
// the proxy as their HTTPS proxy: a CONNECT request opens a tunnel, the TLS
// inside ends here with a certificate of the operator's CA, and an
// [http.Server] serves the requests inside.
//
// The package knows no portal and no rights. What a CONNECT request said
// reaches the handler of the requests inside by [From].
package intercept

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// A Tunnel is what its CONNECT request said.
type Tunnel struct {
	Name string      // of the server that the client believes to talk to, in lower case
	User string      // of Proxy-Authorization; empty: none
	Key  secret.Text // of Proxy-Authorization; zero: none
}

type tunnelKey struct{}

// From returns the tunnel that a request came through, nil if through none.
func From(ctx context.Context) *Tunnel {
	tunnel, _ := ctx.Value(tunnelKey{}).(*Tunnel)
	return tunnel
}

// LeadsTo reports whether a Host header names the server that the tunnel leads
// to.
func (t *Tunnel) LeadsTo(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, ":443"), t.Name)
}

// Credentials returns the user name and the key in the Proxy-Authorization
// headers of a CONNECT request: Basic has both, Bearer has a key. ok is false
// if a header has another form, or if two of them differ. Without a header
// both are empty.
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
