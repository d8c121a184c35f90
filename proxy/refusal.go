package proxy

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/tokens"
)

// errorHeader is the header of the proxy's own answers. Its value is the category. It
// distinguishes them from HubSpot's answers.
const errorHeader = "X-Hubspot-Auth-Proxy-Error"

// statuses maps each category of the proxy's own answers to its status.
var statuses = map[string]int{
	"METHOD_REFUSED":                  http.StatusMethodNotAllowed,
	"CONNECT_REFUSED":                 http.StatusForbidden,
	"REQUEST_INVALID":                 http.StatusBadRequest,
	"BROWSER_REFUSED":                 http.StatusForbidden,
	"CLIENT_UNAUTHENTICATED":          http.StatusUnauthorized,
	"CLIENT_FORBIDDEN":                http.StatusForbidden,
	"PORTAL_REQUIRED":                 http.StatusBadRequest,
	"PORTAL_INVALID":                  http.StatusBadRequest,
	"PORTAL_CONFLICT":                 http.StatusBadRequest,
	"PORTAL_NOT_CONNECTED":            http.StatusForbidden,
	"PORTAL_REAUTHORIZATION_REQUIRED": http.StatusForbidden,
	"CREDENTIAL_UNAVAILABLE":          http.StatusServiceUnavailable,
	"APP_MISMATCH":                    http.StatusServiceUnavailable,
	"OVERLOADED":                      http.StatusServiceUnavailable,
	"RATE_LIMITED":                    http.StatusTooManyRequests,
	"UPSTREAM_UNREACHABLE":            http.StatusBadGateway,
	"UPSTREAM_TIMEOUT":                http.StatusGatewayTimeout,
}

// refusal is an answer that the proxy makes itself.
type refusal struct {
	category   string
	message    string        // for the client: what to do next; contains no secret
	retryAfter time.Duration // header Retry-After; zero means none
	policy     string        // HubSpot's name of the rate limit that is used up; empty means none
	reason     string        // what message would say, if an SDK did not compare message with HubSpot's
	final      bool          // SDKs that send a call again after Retry-After must not do so
	allow      string        // header Allow; empty means none
	toConnect  bool          // answers a CONNECT request without a known client key, by 407
}

func (r *refusal) status() int {
	if r.toConnect {
		return http.StatusProxyAuthRequired
	}
	return statuses[r.category]
}

// refusalFor returns the proxy's own answer for an error of RoundTrip.
func refusalFor(c *call, err error) *refusal {
	var ended *tokens.EndedError
	var unavailable *tokens.UnavailableError
	switch {
	case errors.Is(err, tokens.ErrNotConnected):
		return portalNotConnected(c.portal)
	case errors.As(err, &ended):
		return portalEnded(ended)
	case errors.As(err, &unavailable) && errors.As(err, new(*tokens.AppMismatchError)):
		return appMismatch(c.portal, unavailable.RetryAfter)
	case errors.As(err, &unavailable):
		return credentialUnavailable(unavailable)
	case c.body != nil && c.body.Failure() != nil:
		return bodyInvalid()
	case errors.Is(err, upstream.ErrTimeout): // a timeout of connecting is UPSTREAM_UNREACHABLE
		return upstreamTimeout()
	default:
		return upstreamUnreachable()
	}
}

// errorType returns HubSpot's type of the error, empty if there is none.
func (r *refusal) errorType() string {
	if r.policy == "" {
		return ""
	}
	return "RATE_LIMIT"
}

func methodRefused(method string) *refusal {
	return &refusal{
		category: "METHOD_REFUSED",
		message:  method + " is not forwarded. Use the proxy as the base URL of HubSpot's API; it is not an HTTP proxy (HTTP_PROXY).",
		allow:    "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
	}
}

func requestInvalid(message string) *refusal {
	return &refusal{category: "REQUEST_INVALID", message: message}
}

// fromPage refuses a web page's call. A page must not use a portal through a proxy that the
// browser's user can reach.
func fromPage() *refusal {
	return &refusal{
		category: "BROWSER_REFUSED",
		message:  "Calls from web pages are refused. Call the proxy from a server, without the headers Origin and Sec-Fetch-*.",
	}
}

// foreignHost refuses a call whose Host may be a web page's own name that resolves to the
// proxy (DNS rebinding).
func foreignHost(loopback bool) *refusal {
	if loopback {
		return &refusal{
			category: "BROWSER_REFUSED",
			message:  "This proxy listens on loopback and answers calls without a known client key to localhost and loopback addresses only. Use http://localhost or http://127.0.0.1 as its base URL.",
		}
	}
	return &refusal{
		category: "BROWSER_REFUSED",
		message: "Without a known client key, the proxy answers only to an IP address, a name without a dot, a subdomain of PORTAL_DOMAIN, or a name that its operator lists in ALLOWED_HOSTS. " +
			"Send a known client key, use one of these in the base URL, or have the host name added to ALLOWED_HOSTS.",
	}
}

func clientUnauthenticated() *refusal {
	return &refusal{
		category: "CLIENT_UNAUTHENTICATED",
		message:  "No known client key was sent. Send one, as Authorization: Bearer hap_… or hapikey=hap_…. The proxy's operator makes client keys with the command client add.",
	}
}

// clientAmbiguous refuses a request with several different keys, because the proxy cannot
// know which one the client means.
func clientAmbiguous() *refusal {
	return &refusal{
		category: "CLIENT_UNAUTHENTICATED",
		message:  "Several different keys were sent. Send one key, in one place or the same in each: Authorization: Bearer hap_…, hapikey=hap_… or access_token=hap_… in the query.",
	}
}

// clientExpired refuses a client key that has expired.
func clientExpired() *refusal {
	return &refusal{
		category: "CLIENT_UNAUTHENTICATED",
		message:  "The client key has expired. Ask the proxy's operator for a new one (command client rotate), and send it as Authorization: Bearer hap_….",
	}
}

// clientForwarded refuses a request without a key that another proxy on this
// machine has forwarded.
func clientForwarded() *refusal {
	return &refusal{
		category: "CLIENT_UNAUTHENTICATED",
		message: "The call came through another proxy (it has Forwarded, X-Forwarded-*, X-Real-IP or Via, or is HTTP/1.0), so it may come from any machine and needs a client key. No known client key was sent. " +
			"Send one, as Authorization: Bearer hap_… or hapikey=hap_…. The proxy's operator makes client keys with the command client add.",
	}
}

func clientForbidden(message string) *refusal {
	return &refusal{category: "CLIENT_FORBIDDEN", message: message}
}

func portalRequired() *refusal {
	return &refusal{
		category: "PORTAL_REQUIRED",
		message:  "No portal is named. Put /portals/{id} before the path, send the header X-HubSpot-Portal-Id, or ask the proxy's operator to set DEFAULT_PORTAL.",
	}
}

func portalInvalid() *refusal {
	return &refusal{
		category: "PORTAL_INVALID",
		message:  "The portal in the path, in the host name or in X-HubSpot-Portal-Id is not a portal id. A portal id is HubSpot's Hub ID, digits only, such as 62515.",
	}
}

func portalConflict() *refusal {
	return &refusal{
		category: "PORTAL_CONFLICT",
		message:  "The request names two different portals. Name one, by /portals/{id} in the path, by the host name or by X-HubSpot-Portal-Id.",
	}
}

func portalNotServed(portal string) *refusal {
	return &refusal{
		category: "PORTAL_NOT_CONNECTED",
		message:  "This proxy does not serve portal " + portal + ". Its operator can add it to SERVE_PORTALS.",
	}
}

func portalNotConnected(portal string) *refusal {
	return &refusal{
		category: "PORTAL_NOT_CONNECTED",
		message:  "No credential is stored for portal " + portal + ". Check the id, or ask the proxy's operator to connect the portal.",
	}
}

func portalEnded(ended *tokens.EndedError) *refusal {
	return &refusal{
		category: "PORTAL_REAUTHORIZATION_REQUIRED",
		message: ended.Error() + ": mostly because the app was removed from it, or its access revoked. " + nextTry(ended.Next) +
			" The proxy's operator can " + tokens.Portal{ID: ended.Portal, State: tokens.Ended}.Remedy() + ".",
	}
}

// nextTry returns a sentence that says when the grant is tried again.
func nextTry(at time.Time) string {
	if at.IsZero() {
		return "It is not tried again by itself, unless the proxy gets another client id or secret."
	}
	return "It is tried again by the first call after " + at.UTC().Format(time.RFC3339) + ", or at once by the command portal check."
}

// appMismatch refuses a call whose portal's grant belongs to another app. The
// client ids are for the log.
func appMismatch(portal string, retryAfter time.Duration) *refusal {
	return &refusal{
		category: "APP_MISMATCH",
		message: "The grant of portal " + portal + " was given to another HubSpot app than the one that the proxy is set up with, so that it is not used, and not lost. " +
			"The proxy's operator finds both client ids in the log, and can set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to those of the grant's app, or connect the portal again.",
		retryAfter: retryAfter,
	}
}

func credentialUnavailable(u *tokens.UnavailableError) *refusal {
	return &refusal{
		category:   "CREDENTIAL_UNAVAILABLE",
		message:    "The credential of portal " + u.Portal + " is not available at the moment. Try again later. The proxy's log has the reason.",
		retryAfter: u.RetryAfter,
	}
}

// clientsUnavailable refuses an unknown key before all clients were loaded: the key may
// belong to one of them.
func clientsUnavailable() *refusal {
	return &refusal{
		category:   "CREDENTIAL_UNAVAILABLE",
		message:    "The client key cannot be checked yet, because the proxy's Redis has not answered since the proxy started. Try again later. The proxy's log has the reason.",
		retryAfter: time.Second,
	}
}

func upstreamUnreachable() *refusal {
	return &refusal{
		category: "UPSTREAM_UNREACHABLE",
		message:  "The connection to HubSpot failed. HubSpot may have received the request. The proxy's log has the reason.",
	}
}

func upstreamTimeout() *refusal {
	return &refusal{
		category: "UPSTREAM_TIMEOUT",
		message:  "HubSpot has not answered within UPSTREAM_TIMEOUT. It may have received the request.",
	}
}

// refuse sends the refusal, as JSON in the form of HubSpot's errors.
func (a *reply) refuse(r *refusal) {
	a.call.refused = r.category
	header := a.Header()
	clear(header)
	header.Set("Content-Type", "application/json;charset=utf-8")
	header.Set(errorHeader, r.category)
	if r.allow != "" {
		header.Set("Allow", r.allow)
	}
	if r.status() == http.StatusUnauthorized {
		header.Set("Www-Authenticate", "Bearer") // RFC 9110 section 11.6.1
	}
	if r.toConnect {
		header.Set("Proxy-Authenticate", `Basic realm="hubspot-auth-proxy", charset="UTF-8"`)
	}
	if r.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.retryAfter.Seconds()))))
	}
	if r.final {
		header.Set("X-Should-Retry", "false") // HubSpot's newer SDKs would wait until Retry-After
	}
	a.call.correlation = correlationID()
	a.WriteHeader(r.status())
	_, _ = a.Write(append(r.body(a.call.correlation), '\n'))
}

// body returns the refusal's JSON.
func (r *refusal) body(correlation string) []byte {
	context := map[string][]string(nil)
	if r.reason != "" {
		context = map[string][]string{"reason": {r.reason}}
	}
	// A struct of strings cannot fail.
	text, _ := json.Marshal(struct {
		Status        string              `json:"status"`
		Message       string              `json:"message"`
		CorrelationID string              `json:"correlationId"`
		Category      string              `json:"category"`
		ErrorType     string              `json:"errorType,omitempty"` // as in HubSpot's 429, like PolicyName
		PolicyName    string              `json:"policyName,omitempty"`
		Context       map[string][]string `json:"context,omitempty"`
	}{"error", r.message, correlation, r.category, r.errorType(), r.policy, context})
	return text
}

// correlationID returns a random id in the form of HubSpot's correlation ids. The answer
// and its line in the access log have the same id.
func correlationID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
