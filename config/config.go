// Package config reads the program's settings from the environment into one struct, checks
// them once at start, and prints them without secrets.
package config

import (
	"net/url"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// Config has all settings, in the order of README.md. A variable that is unset or empty
// has its default. A field whose variable has no default has the zero value of its
// type. The field's comment says what the zero value means.
//
// Every field of type secret.Text can also be given as a file: the variable NAME_FILE is
// the path of the file.
//
// Only [Load] returns a checked Config. A Config is not changed afterwards, so it is safe
// for concurrent use.
type Config struct {
	// ListenAddr is the host:port at which the proxy listens. An empty host means all
	// addresses; port 0 means a port that the system chooses.
	ListenAddr string `env:"LISTEN_ADDR" envDefault:"127.0.0.1:8080"`

	// AdminAddr is the host:port of the admin listener, which serves health, metrics and
	// the operator's pages. It has the form of ListenAddr.
	AdminAddr string `env:"ADMIN_ADDR" envDefault:"127.0.0.1:8081"`

	// TLSCertFile and TLSKeyFile are the paths of a PEM certificate chain and of its
	// key, with which the proxy serves TLS. Both are set, or neither; empty means plain
	// HTTP. Load checks only that the files can be read.
	TLSCertFile string `env:"TLS_CERT_FILE"`
	TLSKeyFile  string `env:"TLS_KEY_FILE"`

	// TLSClientCAFile is the path of the PEM certificates of the authorities that must
	// have signed clients' certificates. Empty means that clients need no certificate.
	// It is set only if TLSCertFile is set.
	TLSClientCAFile string `env:"TLS_CLIENT_CA_FILE"`

	// InterceptCACertFile and InterceptCAKeyFile are the paths of the PEM certificate and
	// key of the CA for clients that use the proxy as their HTTPS proxy. Both are set, or
	// neither; empty means that CONNECT is refused. Load checks only that the files can be
	// read.
	InterceptCACertFile string `env:"INTERCEPT_CA_CERT_FILE"`
	InterceptCAKeyFile  string `env:"INTERCEPT_CA_KEY_FILE"`

	// UpstreamURL is where requests are sent. It has a scheme, a host and possibly a port,
	// and nothing else. The scheme is https, or http to loopback. Never nil.
	UpstreamURL *url.URL `env:"UPSTREAM_URL" envDefault:"https://api.hubapi.com"`

	// UpstreamTimeout is the longest time between a request's last byte and HubSpot's
	// response headers. Greater than zero.
	UpstreamTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"120s"`

	// UpstreamHTTP2 offers HTTP/2 to HubSpot. False means HTTP/1.1 only.
	UpstreamHTTP2 bool `env:"UPSTREAM_HTTP2" envDefault:"false"`

	// RetryBodyLimit is how many bytes of one request's body are kept for a second
	// attempt. Zero means that only requests without a body are sent a second time.
	RetryBodyLimit int64 `env:"RETRY_BODY_LIMIT" envDefault:"1048576"`

	// RetryMemory is how many bytes of bodies are kept for second attempts of all requests
	// together. Zero means that no body is kept.
	RetryMemory int64 `env:"RETRY_MEMORY" envDefault:"33554432"`

	// RateLimitWait is how long a call may wait for its turn within HubSpot's rate
	// limits. Zero means that calls are sent without waiting for a turn.
	RateLimitWait time.Duration `env:"RATE_LIMIT_WAIT" envDefault:"0s"`

	// MaxConnections is how many connections of clients may be open at once, and
	// MaxRequests how many requests may be under way. Greater than zero. Nil means that
	// the number follows from the limit of open files.
	MaxConnections *int `env:"MAX_CONNECTIONS"`
	MaxRequests    *int `env:"MAX_REQUESTS"`

	// ShutdownDelay is how long the proxy keeps serving after SIGTERM, while /readyz
	// reports that it is not ready. Zero means that it stops accepting requests at once.
	ShutdownDelay time.Duration `env:"SHUTDOWN_DELAY" envDefault:"0s"`

	// ShutdownTimeout is how long requests that are under way may take after
	// ShutdownDelay. Zero means that they are broken off at once.
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s"`

	// RedisURL is a redis:// or rediss:// URL with a host, or a unix:// URL with a path.
	// Empty means the embedded Redis. The Redis client checks the other parts of the URL.
	RedisURL secret.Text `env:"REDIS_URL"`

	// StateFile is the path of the file in which the embedded Redis keeps its data. Empty
	// means in memory only. It is set only if RedisURL is empty.
	StateFile string `env:"STATE_FILE"`

	// RedisTLSCertFile and RedisTLSKeyFile are the paths of the PEM certificate and key
	// that the program presents to Redis. Both are set, or neither. RedisTLSCAFile is the
	// path of the PEM certificates of the authorities that must have signed Redis'
	// certificate; empty means the authorities of the system. All three are empty unless
	// RedisURL is rediss://.
	RedisTLSCertFile string `env:"REDIS_TLS_CERT_FILE"`
	RedisTLSKeyFile  string `env:"REDIS_TLS_KEY_FILE"`
	RedisTLSCAFile   string `env:"REDIS_TLS_CA_FILE"`

	// RedisPrefix is the prefix of every key and channel. It has no braces and no white
	// space. Never empty.
	RedisPrefix string `env:"REDIS_PREFIX" envDefault:"hubspot:"`

	// EncryptionKeys is the text of the keys that [Config.Keys] returns. Empty means that
	// secrets are stored unsealed.
	EncryptionKeys secret.Text `env:"ENCRYPTION_KEYS"`

	// HubSpotClientID and HubSpotClientSecret belong to the HubSpot app. Both are set, or
	// neither; empty means that OAuth tokens cannot be renewed.
	HubSpotClientID     string      `env:"HUBSPOT_CLIENT_ID"`
	HubSpotClientSecret secret.Text `env:"HUBSPOT_CLIENT_SECRET"`

	// HubSpotRedirectURL is where HubSpot sends a browser after consent: https, or http
	// to loopback, without a fragment. Nil means that there is no connect flow. It is set
	// only if HubSpotClientID and HubSpotClientSecret are set.
	HubSpotRedirectURL *url.URL `env:"HUBSPOT_REDIRECT_URL"`

	// HubSpotScopes and HubSpotOptionalScopes are the scopes that the connect flow
	// requests, separated by single spaces. Empty if HubSpotRedirectURL is nil.
	HubSpotScopes         string `env:"HUBSPOT_SCOPES"`
	HubSpotOptionalScopes string `env:"HUBSPOT_OPTIONAL_SCOPES"`

	// HubSpotMarketplaceInstall accepts installations that begin in HubSpot's marketplace.
	// False means that they are refused. True only if HubSpotRedirectURL is set.
	HubSpotMarketplaceInstall bool `env:"HUBSPOT_MARKETPLACE_INSTALL" envDefault:"false"`

	// HubSpotAuthorizeURL is HubSpot's consent page: https, or http to
	// loopback, without a query or a fragment. Never nil.
	HubSpotAuthorizeURL *url.URL `env:"HUBSPOT_AUTHORIZE_URL" envDefault:"https://app.hubspot.com/oauth/authorize"`

	// HubSpotTokenURL is HubSpot's token endpoint: https, or http to loopback. Its default
	// is UpstreamURL with the path /oauth/2026-03/token. Never nil.
	HubSpotTokenURL *url.URL `env:"HUBSPOT_TOKEN_URL"`

	// RefreshAhead is how long before its expiry a token is renewed. Greater than zero.
	RefreshAhead time.Duration `env:"REFRESH_AHEAD" envDefault:"5m"`

	// HubSpotPortalID is the id of the portal whose credential is one of the next three
	// fields. Empty means that the environment has no credential, or a static one without
	// an id: see [Config.Default].
	HubSpotPortalID string `env:"HUBSPOT_PORTAL_ID"`

	// The credential of the environment's portal. At most one of these is set: the access
	// token of a private app or service key, a developer API key, or the refresh token of
	// an OAuth grant. A refresh token requires HubSpotPortalID and the HubSpot app.
	HubSpotAccessToken  secret.Text `env:"HUBSPOT_ACCESS_TOKEN"`
	HubSpotAPIKey       secret.Text `env:"HUBSPOT_API_KEY"`
	HubSpotRefreshToken secret.Text `env:"HUBSPOT_REFRESH_TOKEN"`

	// SeedFile is the path of a file with portals and clients. Load checks only that the
	// file can be opened. Empty means that there is none.
	SeedFile string `env:"SEED_FILE"`

	// DefaultPortal is the value of DEFAULT_PORTAL. Use [Config.Default] for the portal of
	// calls that name none.
	DefaultPortal string `env:"DEFAULT_PORTAL"`

	// ServePortals are the ids of the only portals that this process serves, including the
	// default portal. Empty means that this process serves all portals.
	ServePortals []string `env:"SERVE_PORTALS"`

	// PortalDomain is a domain in lower case, without a final dot, whose subdomains name
	// portals. Empty means localhost if the bound address is loopback. Otherwise, empty
	// means that no subdomain names a portal.
	PortalDomain string `env:"PORTAL_DOMAIN"`

	// AllowedHosts are host names in lower case, without a final dot, that calls without a
	// client key may have in their Host header, in addition to the names that are always
	// allowed.
	AllowedHosts []string `env:"ALLOWED_HOSTS"`

	// AllowAnonymous accepts calls without a client key. Nil means true if the bound
	// address is loopback, else false.
	AllowAnonymous *bool `env:"ALLOW_ANONYMOUS"`

	// OAuthWithoutKey accepts calls of HubSpot's token endpoint without a client key.
	// False means that these calls need a client key like all others.
	OAuthWithoutKey bool `env:"OAUTH_WITHOUT_KEY" envDefault:"true"`

	// AdminPassword is the password of the user admin for the operator's pages. Empty
	// means that these pages need no password, and are served on loopback only.
	AdminPassword secret.Text `env:"ADMIN_PASSWORD"`

	// NotifyURL receives a POST when a portal's grant ends or works again: https, or http
	// to loopback, without a user name and a fragment. Empty means no notifications.
	NotifyURL secret.Text `env:"NOTIFY_URL"`

	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`

	// LogFormat is json or console. Empty means console on a terminal, and
	// json elsewhere.
	LogFormat string `env:"LOG_FORMAT"`

	// AccessLog selects the requests that are logged: true for all, false for none, errors
	// for those that are answered with a status of 400 or more, or are broken off.
	AccessLog string `env:"ACCESS_LOG" envDefault:"true"`

	// The source of each setting that was given, by the variable's name.
	sources map[string]string
}

// Keys returns the keys with which secrets are sealed. Without ENCRYPTION_KEYS the ring is
// empty.
func (c Config) Keys() seal.Ring {
	ring, _ := seal.Parse(c.EncryptionKeys) // Load has checked it
	return ring
}

// unnamed is the name of the environment's portal if the portal has no id.
const unnamed = "default"

// Default returns the portal of calls that name none. This is DEFAULT_PORTAL, or else
// HUBSPOT_PORTAL_ID, or else "default" if the environment has a static credential without
// an id. Otherwise Default returns "", which means that such calls are refused.
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
