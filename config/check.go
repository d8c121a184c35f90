package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)

// check checks every setting, and then the settings that depend on each other.
func (l *loader) check() {
	l.checkListeners()
	l.checkUpstream()
	l.checkNumbers()
	l.checkRedis()
	l.checkRedisTLS()
	l.checkKeys()
	l.checkApp()
	l.checkConnect()
	l.checkCredential()
	l.checkSeedFile()
	l.checkPortals()
	l.checkHosts()
	l.checkPassword()
	l.checkNotify()
	l.checkLogs()
}

func (l *loader) checkListeners() {
	l.checkAddr("LISTEN_ADDR", l.ListenAddr)
	l.checkAddr("ADMIN_ADDR", l.AdminAddr)
	if _, port, _ := net.SplitHostPort(l.AdminAddr); l.AdminAddr == l.ListenAddr && port != "0" {
		l.fault("ADMIN_ADDR", quote(l.AdminAddr)+" is also LISTEN_ADDR", "give the admin listener a port of its own")
	}
	l.require([]string{certFile, keyFile}, certFile, keyFile, clientCAFile)
	l.require([]string{caCertFile, caKeyFile}, caCertFile, caKeyFile)
	for _, name := range []string{certFile, keyFile, clientCAFile, caCertFile, caKeyFile} {
		if l.given(name) {
			l.readFile(name, l.values[name])
		}
	}
}

func (l *loader) checkAddr(name, addr string) {
	host, port, err := net.SplitHostPort(addr)
	_, noIP := netip.ParseAddr(host)
	if err != nil || !isPort(port) || (noIP != nil && !hostName.MatchString(host)) {
		l.fault(name, quote(addr)+" is not host:port", "give an address such as 127.0.0.1:8080, [::1]:8080 or :8080")
	}
}

func (l *loader) checkNumbers() {
	l.checkAtLeast("UPSTREAM_TIMEOUT", l.UpstreamTimeout, 1)
	l.checkAtLeast("RATE_LIMIT_WAIT", l.RateLimitWait, 0)
	l.checkAtLeast("SHUTDOWN_DELAY", l.ShutdownDelay, 0)
	l.checkAtLeast("SHUTDOWN_TIMEOUT", l.ShutdownTimeout, 0)
	l.checkAtLeast("REFRESH_AHEAD", l.RefreshAhead, 1)
	l.checkBytes("RETRY_BODY_LIMIT", l.RetryBodyLimit)
	l.checkBytes("RETRY_MEMORY", l.RetryMemory)
	l.checkCount("MAX_CONNECTIONS", l.MaxConnections)
	l.checkCount("MAX_REQUESTS", l.MaxRequests)
}

func (l *loader) checkAtLeast(name string, d, least time.Duration) {
	switch {
	case d >= least:
	case least == 0:
		l.fault(name, quote(d.String())+" is negative", "give a duration of 0s or more")
	default:
		l.fault(name, quote(d.String())+" is not greater than zero", "give a duration such as 30s or 5m")
	}
}

func (l *loader) checkBytes(name string, n int64) {
	if n < 0 {
		l.fault(name, quote(strconv.FormatInt(n, 10))+" is negative", "give a number of bytes, or 0 to keep none")
	}
}

func (l *loader) checkCount(name string, n *int) {
	if n != nil && *n < 1 {
		l.fault(name, quote(strconv.Itoa(*n))+" is not greater than zero", "give a number such as 1000, or unset it")
	}
}

func (l *loader) checkRedis() {
	switch {
	case l.RedisURL.IsZero():
	case skipsVerify(l.RedisURL.Reveal()):
		l.fault("REDIS_URL", "has skip_verify, which lets anyone on the network path read and change the traffic",
			"remove it, and name the PEM file of the authority that signed Redis' certificate in REDIS_TLS_CA_FILE")
	case !isRedisURL(l.RedisURL.Reveal()):
		l.fault("REDIS_URL", "is not a redis:// or rediss:// URL with a host, nor a unix:/// URL with a path (not shown, because it may contain a password)",
			"give a URL such as redis://localhost:6379/0, with special characters of the password percent-encoded")
	}
	if l.given("REDIS_URL") && l.given("STATE_FILE") {
		l.fault("STATE_FILE", "is set, and so is REDIS_URL", "keep one of them: the file is for the Redis inside this process")
	}
	if strings.ContainsFunc(l.RedisPrefix, func(r rune) bool { return r == '{' || r == '}' || unicode.IsSpace(r) }) {
		l.fault("REDIS_PREFIX", quote(l.RedisPrefix)+" has a brace or white space", "remove them: Redis Cluster distributes keys by the text in braces")
	}
}

// checkRedisTLS checks the files that are for rediss:// only.
func (l *loader) checkRedisTLS() {
	const cert, key, ca = "REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE", "REDIS_TLS_CA_FILE"
	l.require([]string{cert, key}, cert, key)
	u, err := url.Parse(l.RedisURL.Reveal())
	for _, name := range []string{cert, key, ca} {
		if !l.given(name) {
			continue
		}
		l.readFile(name, l.values[name])
		if err == nil && u.Scheme != "rediss" {
			l.fault(name, "is set, although REDIS_URL is not a rediss:// URL", "give a rediss:// URL, or unset "+name)
		}
	}
}

// skipsVerify reports whether the URL has the option that makes go-redis accept any
// certificate.
func skipsVerify(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Query().Has("skip_verify")
}

func isRedisURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "redis", "rediss":
		return hasHost(u)
	case "unix":
		return u.Host == "" && u.Path != "" // in unix://tmp/redis.sock, tmp is the host
	}
	return false
}

func (l *loader) checkKeys() {
	if _, err := seal.Parse(l.EncryptionKeys); err != nil {
		l.fault("ENCRYPTION_KEYS", err.Error(), "give a list such as k1:BASE64,k2:BASE64, of keys that keys generate has printed")
	}
}

func (l *loader) checkApp() {
	l.require([]string{clientID, clientSecret}, clientID, clientSecret, redirectURL, refreshToken)
	l.checkHeaderSafe(clientID, l.HubSpotClientID)
	l.checkHeaderSafe(clientSecret, l.HubSpotClientSecret.Reveal())
}

// checkHeaderSafe adds a fault if no header can carry the value. The fault does not
// quote the value, which is a credential.
func (l *loader) checkHeaderSafe(name, value string) {
	if n := len(value); n > 1 && strings.ContainsRune(`"'`, rune(value[0])) && value[n-1] == value[0] {
		l.fault(name, "is in quotes", "remove the quotes; docker run --env-file, for example, makes them a part of the value")
		return
	}
	if secret.HeaderUnsafe(value) >= 0 {
		l.fault(name, "has a space, a line break or another character that no credential contains", "copy the credential again, without anything around it")
	}
}

func (l *loader) checkCredential() {
	l.checkHeaderSafe(accessToken, l.HubSpotAccessToken.Reveal())
	l.checkHeaderSafe(apiKey, l.HubSpotAPIKey.Reveal())
	l.checkHeaderSafe(refreshToken, l.HubSpotRefreshToken.Reveal())
	l.require([]string{portal}, refreshToken)

	given := slices.DeleteFunc([]string{accessToken, apiKey, refreshToken}, func(name string) bool { return !l.given(name) })
	switch {
	case len(given) > 1:
		l.fault(given[0], "is set, and so is "+list(given[1:]), "keep one of them, because a portal has one credential")
	case len(given) == 0 && l.given(portal):
		l.fault(portal, "is set without a credential of that portal", "set one of HUBSPOT_ACCESS_TOKEN, HUBSPOT_API_KEY and HUBSPOT_REFRESH_TOKEN, or set DEFAULT_PORTAL instead")
	}
}

// checkSeedFile adds a fault if the seed file cannot be opened. It does not read the file,
// because only the proxy uses the content. A command works while the content is faulty or
// too large.
func (l *loader) checkSeedFile() {
	if l.SeedFile == "" {
		return
	}
	file, _, faults := SeedFile(l.SeedFile).open()
	if faults != nil {
		l.faults = append(l.faults, faults...)
		return
	}
	_ = file.Close() // nothing was written
}

func (l *loader) checkPortals() {
	l.checkPortalID(portal, l.HubSpotPortalID)
	l.checkPortalID("DEFAULT_PORTAL", l.DefaultPortal)
	for _, id := range l.ServePortals {
		if !hubspot.ValidPortal(id) {
			l.fault("SERVE_PORTALS", quoteID(id)+" is not a portal id", "give ids separated by commas, such as 62515,62516")
		}
	}

	own := l.environmentPortal()
	if own != "" && l.DefaultPortal != "" && own != l.DefaultPortal {
		l.fault("DEFAULT_PORTAL", quote(l.DefaultPortal)+" is not the portal whose credential the environment has, which is the default portal", "unset DEFAULT_PORTAL, or set HUBSPOT_PORTAL_ID to the same id")
	}
	switch id := l.Default(); {
	case id == "" || len(l.ServePortals) == 0 || slices.Contains(l.ServePortals, id):
	case id == unnamed:
		l.fault("SERVE_PORTALS", "does not list the portal whose credential the environment has, and which has no id", "set HUBSPOT_PORTAL_ID, and add that id")
	default:
		l.fault("SERVE_PORTALS", "does not list the default portal "+quote(id), "add it")
	}
}

// checkHosts accepts host names only. Requests are compared with them by host name, so a
// value with a port, a scheme or a wildcard would match none.
func (l *loader) checkHosts() {
	if _, err := netip.ParseAddr(l.PortalDomain); l.given("PORTAL_DOMAIN") && (err == nil || !wire.IsHostName(l.PortalDomain)) {
		l.fault("PORTAL_DOMAIN", quote(l.PortalDomain)+" is not a domain", "give a domain without a port, such as hubspot.example.com, whose subdomains (62515.hubspot.example.com) resolve to this proxy")
	}
	for _, host := range l.AllowedHosts {
		if !wire.IsHostName(host) {
			l.fault("ALLOWED_HOSTS", quote(host)+" is not a host name", "give host names without ports, separated by commas, such as hubspot.tools.svc.cluster.local")
		}
	}
}

// environmentPortal returns the portal whose credential the environment has, or "".
func (l *loader) environmentPortal() string {
	own := l.Config
	own.DefaultPortal = ""
	return own.Default()
}

func (l *loader) checkPortalID(name, id string) {
	if id != "" && !hubspot.ValidPortal(id) {
		l.fault(name, quoteID(id)+" is not a portal id", "give a number such as 62515")
	}
}

// quoteID quotes the value only if it is not much longer than an id, because a longer one
// may be a token that was set by mistake.
func quoteID(id string) string {
	if len(id) > 24 {
		return "the value (not shown, because it may be a secret)"
	}
	return quote(id)
}

// minPassword is how many characters a password has at least, because anyone who reaches
// the admin listener can try passwords.
const minPassword = 12

// checkPassword refuses short passwords, and characters that HTTP Basic excludes (RFC 7617)
// or that browsers do not send.
func (l *loader) checkPassword() {
	password := l.AdminPassword.Reveal()
	if !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		l.fault("ADMIN_PASSWORD", "has a line break or another control character, or is not UTF-8", "give a password that can be typed")
	}
	if n := utf8.RuneCountInString(password); n > 0 && n < minPassword {
		l.fault("ADMIN_PASSWORD", fmt.Sprintf("has fewer than %d characters", minPassword), "give a long random password, such as openssl rand -base64 18 prints")
	}
}

func (l *loader) checkLogs() {
	l.checkOneOf("LOG_LEVEL", l.LogLevel, "debug", "info", "warn", "error")
	l.checkOneOf("ACCESS_LOG", l.AccessLog, "true", "false", "errors")
	if l.LogFormat != "" {
		l.checkOneOf("LOG_FORMAT", l.LogFormat, "json", "console")
	}
}

func (l *loader) checkOneOf(name, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		l.fault(name, quote(value)+" is not known", "give one of "+strings.Join(allowed, ", "))
	}
}
