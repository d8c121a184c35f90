package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// Options are what a [Proxy] works with.
type Options struct {
	Credentials Credentials

	// Upstream is where all requests go: scheme, host and port.
	Upstream *url.URL

	// UpstreamTLS is used for https. Nil: the system's root certificates.
	UpstreamTLS *tls.Config

	// UpstreamTimeout is how long HubSpot may take from a request's last byte
	// until the response's header. Zero: as long as it likes.
	UpstreamTimeout time.Duration

	// UpstreamHTTP2 offers HTTP/2 to HubSpot.
	UpstreamHTTP2 bool

	// RetryBodyLimit is how many bytes of a request's body are kept for a
	// second try; RetryMemory how many of all requests' bodies together.
	// Zero: none, so that only requests without a body are sent again.
	RetryBodyLimit, RetryMemory int64

	// MaxRequests is how many requests that were let in are under way at once, and
	// half of it how many of one client. Zero means no limit.
	MaxRequests int

	// Budget counts the calls that are sent, and keeps clients to their daily limits.
	// Nil means that nothing is counted, and clients have no daily limits.
	Budget *budget.Budget

	// RateLimitWait is how long a call may wait in all for its turns within HubSpot's
	// rate limits, which the budget gives. Zero means that calls need no turns.
	RateLimitWait time.Duration

	// DefaultPortal is the portal of calls that name none. Empty: they are
	// refused.
	DefaultPortal string

	// ServePortals are the only portals that are served. Empty: all.
	ServePortals []string

	// Clients are the callers that have a key. Nil: there are none.
	Clients Clients

	// AllowAnonymous lets callers in that have no client key, for all portals.
	AllowAnonymous bool

	// OAuthNeedsKey refuses calls of HubSpot's token endpoint that have no
	// client key. Otherwise they are let in, because SDKs send none there.
	OAuthNeedsKey bool

	// Loopback means that the listener's own address is a loopback address.
	// Calls without a client key that name another host then come from a
	// browser that was deceived, and those that another proxy has forwarded
	// come from anywhere.
	Loopback bool

	// PortalDomain is the domain, in lower case, whose subdomains name portals:
	// 62515.example.com. Empty means that the host name names none.
	PortalDomain string

	// AllowedHosts are further host names, in lower case, by which calls without
	// a client key may reach the proxy if Loopback is false.
	AllowedHosts []string

	// Intercept has the certificates for tunnels to HubSpot, which CONNECT
	// requests open. Nil: CONNECT is refused.
	Intercept *intercept.Authority

	// ConnState and ConnContext are those of [Proxy.Server]. They are called for
	// connections that are tunnels too. Nil is allowed.
	ConnState   func(net.Conn, http.ConnState)
	ConnContext func(context.Context, net.Conn) context.Context

	// AccessLog writes a line a request to Log.
	AccessLog bool

	// AccessLogErrors leaves the lines of those out that were answered with a status
	// below 400 and not broken off.
	AccessLogErrors bool

	// Metrics is where the proxy's metrics are registered. Nil: nowhere, they
	// are counted all the same.
	Metrics prometheus.Registerer

	// History counts the calls of the last hour. Nil: nobody does.
	History *History

	// Log gets what operators should know. Nil: nothing is logged.
	Log *zap.Logger
}

// Credentials is where the portals' credentials come from; [tokens.Source] is
// one. It must be safe for concurrent use.
type Credentials interface {
	// Credential returns the portal's credential. Its errors are those of
	// [tokens.Source.Credential].
	Credential(ctx context.Context, portal string) (*tokens.Credential, error)

	// Renew returns another credential than the one that HubSpot rejected,
	// or an error if there is none. expired tells that HubSpot gave the
	// credential's expiry as the reason.
	Renew(ctx context.Context, rejected *tokens.Credential, expired bool) (*tokens.Credential, error)
}

// Clients finds callers by their key; [clients.Set] is one. It must be safe for
// concurrent use, and quick for keys that it does not know.
type Clients interface {
	// Find returns the client whose key it is, unless the key has expired.
	Find(key secret.Text) (client *clients.Client, known bool)

	// Expired reports whether the key is a client's that has expired.
	Expired(key secret.Text) bool

	// Loaded reports whether all clients are known. Until then, a key that is not
	// known may be a client's.
	Loaded() bool
}
