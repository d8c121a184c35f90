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

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// Options configure a [Proxy]. Credentials and Upstream are required.
type Options struct {
	// Credentials is where the portals' credentials come from.
	Credentials Credentials

	// Upstream is where all requests go: scheme, host and port.
	Upstream *url.URL

	// UpstreamTLS is used for https. nil means the system's root certificates.
	UpstreamTLS *tls.Config

	// UpstreamTimeout limits the time from a request's last byte until the header of
	// HubSpot's answer, and how long HubSpot may read nothing of the body. Zero means
	// no limit.
	UpstreamTimeout time.Duration

	// UpstreamHTTP2 offers HTTP/2 to HubSpot.
	UpstreamHTTP2 bool

	// RetryBodyLimit is how many bytes of one request's body are kept for a second
	// try, RetryMemory how many of all requests' bodies together. If either is zero,
	// only requests without a body are sent again.
	RetryBodyLimit, RetryMemory int64

	// MaxRequests limits the admitted requests under way at once. One client may have
	// half of that. Zero means no limit.
	MaxRequests int

	// Budget counts the calls that are sent, and keeps clients to their daily limits.
	// nil means that nothing is counted, and clients have no daily limits.
	Budget *budget.Budget

	// RateLimitWait is how long one call may wait in total until Budget gives it its
	// turns within HubSpot's rate limits. Zero means that calls need no turns.
	RateLimitWait time.Duration

	// DefaultPortal is the portal of calls that name none. Empty means that such
	// calls are refused.
	DefaultPortal string

	// ServePortals are the portals that are served. Empty means all.
	ServePortals []string

	// Clients finds clients by their key. nil means that there are no client keys.
	Clients Clients

	// AllowAnonymous admits calls without a client key, for all portals.
	AllowAnonymous bool

	// OAuthNeedsKey refuses calls of HubSpot's token endpoint without a client key.
	// If false they are admitted, because SDKs send no credential there.
	OAuthNeedsKey bool

	// Loopback means that the listener's own address is a loopback address. Then
	// calls without a client key are refused if they name another host, because a
	// browser under DNS rebinding sends such calls. They are refused too if another
	// proxy has forwarded them, because they may come from any machine.
	Loopback bool

	// PortalDomain is the domain, in lower case, whose subdomains name portals, as in
	// 62515.example.com. Empty means that host names name no portal.
	PortalDomain string

	// AllowedHosts are further host names, in lower case, that calls without a client
	// key may name if Loopback is false.
	AllowedHosts []string

	// Intercept issues the certificates for tunnels to HubSpot, which CONNECT requests
	// open. nil means that CONNECT is refused.
	Intercept *intercept.Authority

	// ConnState and ConnContext are set in the server of [Proxy.Server]. They are also
	// called for the connections inside tunnels. Both may be nil.
	ConnState   func(net.Conn, http.ConnState)
	ConnContext func(context.Context, net.Conn) context.Context

	// AccessLog writes one line for each request to Log, with the message [AccessMessage].
	AccessLog bool

	// AccessLogErrors limits the access log to requests with a status of 400 or more,
	// and those whose answer was broken off.
	AccessLogErrors bool

	// Metrics is where the proxy registers its metrics. nil means that they are not
	// exposed.
	Metrics prometheus.Registerer

	// Activity keeps the recent calls of clients and portals. nil means one of the proxy's
	// own.
	Activity *activity.Log

	// Log is the operator's log. nil means that nothing is logged.
	Log *zap.Logger
}

// Credentials provides the portals' credentials. [tokens.Source] implements it. It must
// be safe for concurrent use.
type Credentials interface {
	// Credential returns the portal's credential. Its errors are those of
	// [tokens.Source.Credential].
	Credential(ctx context.Context, portal string) (*tokens.Credential, error)

	// Renew returns another credential than the one that HubSpot rejected, or an error
	// if there is none. expired means that HubSpot rejected the credential because it
	// has expired.
	Renew(ctx context.Context, rejected *tokens.Credential, expired bool) (*tokens.Credential, error)
}

// Clients finds clients by their key. [clients.Set] implements it. It must be safe for
// concurrent use, and fast for unknown keys too.
type Clients interface {
	// Find returns the client that has the key. It returns nil if no client has it, or
	// if the key has expired.
	Find(key secret.Text) *clients.Client

	// Expired reports whether the key belongs to a client and has expired.
	Expired(key secret.Text) bool

	// Loaded reports whether all clients were loaded. Before that, a key that Find does
	// not know may still belong to a client.
	Loaded() bool
}
