// Package config has the program's settings: one struct, read from the
// environment and checked once at start, and printed without its secrets.
package config

import (
	"net/url"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// Config is every setting, checked, in the order of README.md. A variable that is unset or empty has its default; where there is
// none, the field is its type's zero value, which means what the field says.
//
// Every secret.Text field can also be given as a file, which the variable's
// name with _FILE after it names.
//
// Only [Load] makes a checked Config. It is not changed afterwards, so it may
// be read by many at once.
type Config struct {
	// ListenAddr is where the proxy listens: host:port. An empty host is every
	// address, port 0 is one that the system chooses.
	ListenAddr string `env:"LISTEN_ADDR" envDefault:"127.0.0.1:8080"`

	// AdminAddr is where health, metrics and the operator's pages are served,
	// in the form of ListenAddr.
	AdminAddr string `env:"ADMIN_ADDR" envDefault:"127.0.0.1:8081"`

	// TLSCertFile and TLSKeyFile are the paths of a PEM certificate chain and
	// of its key, to serve the proxy over TLS. Either both are set or none;
	// empty means plain HTTP. They could be read when the settings were, and no
	// more than that is known of them.
	TLSCertFile string `env:"TLS_CERT_FILE"`
	TLSKeyFile  string `env:"TLS_KEY_FILE"`

	// TLSClientCAFile is the path of the PEM certificates that clients'
	// certificates must come from. Empty means that clients are not asked for
	// one. It is set only if TLSCertFile is.
	TLSClientCAFile string `env:"TLS_CLIENT_CA_FILE"`

	// InterceptCACertFile and InterceptCAKeyFile are the paths of the PEM
	// certificate and key of the CA for clients that use the proxy as their HTTPS
	// proxy. Either both are set or none; empty means that CONNECT is refused.
	// They could be read when the settings were, and no more than that is known
	// of them.
	InterceptCACertFile string `env:"INTERCEPT_CA_CERT_FILE"`
	InterceptCAKeyFile  string `env:"INTERCEPT_CA_KEY_FILE"`

	// UpstreamURL is where requests go: scheme, host and port, and nothing
	// else. It is https, or http to loopback. Never nil.
	UpstreamURL *url.URL `env:"UPSTREAM_URL" envDefault:"https://api.hubapi.com"`

	// UpstreamTimeout is how long HubSpot may take from a request's last byte
	// until its response headers. More than zero.
	UpstreamTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"120s"`

	// UpstreamHTTP2 offers HTTP/2 to HubSpot. False is HTTP/1.1 only.
	UpstreamHTTP2 bool `env:"UPSTREAM_HTTP2" envDefault:"false"`

	// RetryBodyLimit is how many bytes of one request's body are kept for a
	// second try. Zero keeps none: only requests without a body are repeated.
	RetryBodyLimit int64 `env:"RETRY_BODY_LIMIT" envDefault:"1048576"`

	// RetryMemory is how many bytes are kept so of all requests together. Zero
	// keeps none.
	RetryMemory int64 `env:"RETRY_MEMORY" envDefault:"33554432"`

	// RateLimitWait is how long a call may wait for its turns within HubSpot's rate
	// limits. Zero means that calls need no turns.
	RateLimitWait time.Duration `env:"RATE_LIMIT_WAIT" envDefault:"0s"`

	// MaxConnections is how many connections of clients are open at once, and
	// MaxRequests how many requests are under way. More than zero. Nil means that
	// the limit of open files decides.
	MaxConnections *int `env:"MAX_CONNECTIONS"`
	MaxRequests    *int `env:"MAX_REQUESTS"`

	// ShutdownDelay is how long the proxy keeps serving after SIGTERM, while
	// it says that it is not ready. Zero stops at once.
	ShutdownDelay time.Duration `env:"SHUTDOWN_DELAY" envDefault:"0s"`

	// ShutdownTimeout is how long requests that are under way may then take to
	// end. Zero waits for none.
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s"`

	// RedisURL is a redis:// or rediss:// URL with a host, or a unix:// one
	// with a path. Empty means the embedded Redis. Its other parts are not
	// checked here, but by the client that opens it.
	RedisURL secret.Text `env:"REDIS_URL"`

	// RedisTLSCertFile and RedisTLSKeyFile are the paths of the PEM certificate and
	// key that the program shows to Redis, and RedisTLSCAFile of the certificates
	// of the only authorities that Redis' own may come from. Certificate and key are
	// both set or none; any of them is set only if RedisURL is rediss://.
	RedisTLSCertFile string `env:"REDIS_TLS_CERT_FILE"`
	RedisTLSKeyFile  string `env:"REDIS_TLS_KEY_FILE"`
	RedisTLSCAFile   string `env:"REDIS_TLS_CA_FILE"`

	// RedisPrefix begins the name of every key and channel. It has no braces
	// and no white space, and is never empty.
	RedisPrefix string `env:"REDIS_PREFIX" envDefault:"hubspot:"`

	// EncryptionKeys are the keys that [Config.Keys] returns, as text. Empty
	// means that secrets are stored as they are.
	EncryptionKeys secret.Text `env:"ENCRYPTION_KEYS"`

	// HubSpotClientID and HubSpotClientSecret are the HubSpot app's. Either
	// both are set or none; empty means that nothing can be renewed.
	HubSpotClientID     string      `env:"HUBSPOT_CLIENT_ID"`
	HubSpotClientSecret secret.Text `env:"HUBSPOT_CLIENT_SECRET"`

	// HubSpotRedirectURL is where HubSpot sends a browser after consent: https,
	// or http to loopback, without a fragment. Nil means that there is no
	// connect flow. Set, so are HubSpotClientID and HubSpotClientSecret.
	HubSpotRedirectURL *url.URL `env:"HUBSPOT_REDIRECT_URL"`

	// HubSpotScopes and HubSpotOptionalScopes are what the connect flow asks
	// for, each separated from the next by one space. Empty if
	// HubSpotRedirectURL is nil.
	HubSpotScopes         string `env:"HUBSPOT_SCOPES"`
	HubSpotOptionalScopes string `env:"HUBSPOT_OPTIONAL_SCOPES"`

	// HubSpotMarketplaceInstall takes installations that begin in HubSpot's
	// marketplace. True only if HubSpotRedirectURL is set.
	HubSpotMarketplaceInstall bool `env:"HUBSPOT_MARKETPLACE_INSTALL" envDefault:"false"`

	// HubSpotAuthorizeURL is HubSpot's consent page: https, or http to
	// loopback, without a query or a fragment. Never nil.
	HubSpotAuthorizeURL *url.URL `env:"HUBSPOT_AUTHORIZE_URL" envDefault:"https://app.hubspot.com/oauth/authorize"`

	// HubSpotTokenURL is HubSpot's token endpoint: https, or http to loopback.
	// Unset, it is UpstreamURL with the path /oauth/2026-03/token. Never nil.
	HubSpotTokenURL *url.URL `env:"HUBSPOT_TOKEN_URL"`

	// RefreshAhead is how long before its expiry a token is renewed. More than
	// zero.
	RefreshAhead time.Duration `env:"REFRESH_AHEAD" envDefault:"5m"`

	// HubSpotPortalID is the id of the portal that one of the next three is
	// the credential of. Empty means that the environment has no portal, or
	// one that is known by its static credential only: see [Config.Default].
	HubSpotPortalID string `env:"HUBSPOT_PORTAL_ID"`

	// The credential of the environment's portal. At most one of them is set:
	// an access token of a private app, a developer API key, or the refresh
	// token of an OAuth grant, which needs HubSpotPortalID and the HubSpot app.
	HubSpotAccessToken  secret.Text `env:"HUBSPOT_ACCESS_TOKEN"`
	HubSpotAPIKey       secret.Text `env:"HUBSPOT_API_KEY"`
	HubSpotRefreshToken secret.Text `env:"HUBSPOT_REFRESH_TOKEN"`

	// SeedFile is the path of a file for [ReadSeed], which could be opened when
	// the settings were read. Empty means that there is none.
	SeedFile string `env:"SEED_FILE"`

	// DefaultPortal is what DEFAULT_PORTAL says. What applies to calls that
	// name no portal is what [Config.Default] returns.
	DefaultPortal string `env:"DEFAULT_PORTAL"`

	// ServePortals are the ids of the only portals that this process serves,
	// the default portal among them. Empty means all.
	ServePortals []string `env:"SERVE_PORTALS"`

	// PortalDomain is a domain in lower case, without a final dot, whose
	// subdomains name portals. Empty means that the bound address decides:
	// localhost on loopback, else none.
	PortalDomain string `env:"PORTAL_DOMAIN"`

	// AllowedHosts are host names in lower case, without a final dot, by which
	// calls without a client key may name the proxy. Empty means no others than
	// those that always may.
	AllowedHosts []string `env:"ALLOWED_HOSTS"`

	// AllowAnonymous says whether callers need no client key. Nil means that
	// the bound address decides: true on loopback, else false.
	AllowAnonymous *bool `env:"ALLOW_ANONYMOUS"`

	// OAuthWithoutKey says whether calls of HubSpot's token endpoint need no
	// client key.
	OAuthWithoutKey bool `env:"OAUTH_WITHOUT_KEY" envDefault:"true"`

	// AdminPassword is that of the user admin, for the operator's pages. Empty
	// means that they are served on loopback only, and without one.
	AdminPassword secret.Text `env:"ADMIN_PASSWORD"`

	// NotifyURL gets a POST when a portal's grant ends or works again: https, or
	// http to loopback, without a user name and a fragment. Empty means that nobody
	// is notified.
	NotifyURL secret.Text `env:"NOTIFY_URL"`

	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`

	// LogFormat is json or console. Empty means console on a terminal, and
	// json elsewhere.
	LogFormat string `env:"LOG_FORMAT"`

	// AccessLog is whether requests have a line in the log: true, false, or errors,
	// which is those that are answered with a status from 400 on or broken off.
	AccessLog string `env:"ACCESS_LOG" envDefault:"true"`

	// Where a setting came from, by the variable's name, if it was given.
	sources map[string]string
}

// Keys returns the keys that secrets are sealed with: none if ENCRYPTION_KEYS
// is unset.
func (c Config) Keys() seal.Ring {
	ring, _ := seal.Parse(c.EncryptionKeys) // checked by Load
	return ring
}

// unnamed is what the environment's portal is called if it has no id.
const unnamed = "default"

// Default returns the portal of calls that name none: DEFAULT_PORTAL, else
// HUBSPOT_PORTAL_ID, else "default" if the environment has a static credential
// without an id, else nothing: such calls are then refused.
func (c Config) Default() string {
	switch {
	case c.DefaultPortal != "":
		return c.DefaultPortal
	case c.HubSpotPortalID != "":
		return c.HubSpotPortalID
	case !c.HubSpotAccessToken.IsZero() || !c.HubSpotAPIKey.IsZero():
		return unnamed
	}
	return ""
}
