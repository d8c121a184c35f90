package proxy

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/tokens"
)

// errorHeader is the header by which clients distinguish the proxy's own answers from
// HubSpot's. Its value is the category.
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
	reason     string        // for people, if message repeats HubSpot's words for SDKs; else empty
	final      bool          // SDKs that send a call again after Retry-After must not do so
	allow      string        // header Allow; empty means none
	toConnect  bool          // answers a CONNECT request without a known client key, by 407
}

func newRefusal(category, message string) *refusal {
	return &refusal{category: category, message: message}
}

// newDelay returns a refusal after which the client may try again later.
func newDelay(category string, retryAfter time.Duration, message string) *refusal {
	return &refusal{category: category, message: message, retryAfter: retryAfter}
}

func (r *refusal) status() int {
	if r.toConnect {
		return http.StatusProxyAuthRequired
	}
	return statuses[r.category]
}

// setHeader replaces the header of an answer by the refusal's.
func (r *refusal) setHeader(header http.Header) {
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
}

// body returns the refusal as JSON in the form of HubSpot's errors.
func (r *refusal) body(correlation string) []byte {
	answer := struct {
		Status        string              `json:"status"`
		Message       string              `json:"message"`
		CorrelationID string              `json:"correlationId"`
		Category      string              `json:"category"`
		ErrorType     string              `json:"errorType,omitempty"` // as in HubSpot's 429, like PolicyName
		PolicyName    string              `json:"policyName,omitempty"`
		Context       map[string][]string `json:"context,omitempty"`
	}{Status: "error", Message: r.message, CorrelationID: correlation, Category: r.category, PolicyName: r.policy}
	if r.policy != "" {
		answer.ErrorType = "RATE_LIMIT"
	}
	if r.reason != "" {
		answer.Context = map[string][]string{"reason": {r.reason}}
	}
	text, _ := json.Marshal(answer) // strings cannot fail
	return append(text, '\n')
}

// correlationID returns a random id in the form of HubSpot's correlation ids. The answer
// and its line in the access log have the same id.
func correlationID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// refusalFor returns the proxy's own answer for an error of RoundTrip.
func refusalFor(c *call, err error) *refusal {
	var ended *tokens.EndedError
	var unavailable *tokens.UnavailableError
	var emptied *tokens.EmptiedError
	switch {
	case errors.Is(err, tokens.ErrNotConnected):
		return newRefusal("PORTAL_NOT_CONNECTED",
			"No credential is stored for portal "+c.portal+". Check the id, or ask the proxy's operator to connect the portal.")
	case errors.As(err, &ended):
		return portalEnded(ended)
	case errors.As(err, &unavailable) && errors.As(err, new(*tokens.AppMismatchError)):
		return newDelay("APP_MISMATCH", unavailable.RetryAfter,
			"The grant of portal "+c.portal+" was given to another HubSpot app than HUBSPOT_CLIENT_ID names. The proxy keeps the grant, and does not use it. "+
				"The proxy's operator finds both client ids in the log, and can set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to those of the grant's app, or connect the portal again.")
	case errors.As(err, &unavailable) && errors.As(err, &emptied):
		return newDelay("CREDENTIAL_UNAVAILABLE", unavailable.RetryAfter, fmt.Sprintf(
			"Redis was emptied, or used for the first time, %.0f s ago, and has no record of portal %s. Another process of the proxy may still write the record back. "+
				"Try again in %.0f s; the answer then says whether the portal is connected.", emptied.Ago.Seconds(), unavailable.Portal, math.Ceil(unavailable.RetryAfter.Seconds())))
	case errors.As(err, &unavailable):
		return newDelay("CREDENTIAL_UNAVAILABLE", unavailable.RetryAfter,
			"The credential of portal "+unavailable.Portal+" is not available at the moment. Try again later. The proxy's log has the reason.")
	case errors.Is(err, errNoQuery):
		return requestInvalid("The target * has no query, in which the portal's API key could be sent. Send OPTIONS with a path.")
	case c.body != nil && c.body.Failure() != nil:
		return bodyInvalid()
	case errors.Is(err, upstream.ErrTimeout): // a timeout of connecting is UPSTREAM_UNREACHABLE
		return newRefusal("UPSTREAM_TIMEOUT",
			"HubSpot has not answered within UPSTREAM_TIMEOUT. HubSpot may have received the request.")
	case upstream.NotConnected(err):
		return newRefusal("UPSTREAM_UNREACHABLE",
			"No connection to HubSpot could be opened, so the request has changed nothing there and can be sent again. The proxy's log has the reason.")
	}
	return newRefusal("UPSTREAM_UNREACHABLE",
		"The connection to HubSpot failed. HubSpot may have received the request. The proxy's log has the reason.")
}

func portalEnded(ended *tokens.EndedError) *refusal {
	next := "The grant is not tried again by itself, unless the proxy gets another client id or secret."
	if !ended.Next.IsZero() {
		next = "The grant is tried again by the first call after " + ended.Next.UTC().Format(time.RFC3339) + ", or at once by the command portal check."
	}
	return newRefusal("PORTAL_REAUTHORIZATION_REQUIRED",
		ended.Error()+". The usual reason is that the app was removed from the portal, or its access was revoked. "+next+
			" The proxy's operator can "+tokens.Portal{ID: ended.Portal, State: tokens.Ended}.Remedy()+".")
}

func traceRefused() *refusal {
	return methodRefused("TRACE is not forwarded, because the answer to TRACE repeats the request, with the portal's credential. Use another method.")
}

// connectNotOffered refuses CONNECT if INTERCEPT_CA_CERT_FILE is not set.
func connectNotOffered() *refusal {
	return methodRefused("CONNECT is not accepted, because INTERCEPT_CA_CERT_FILE is not set, so this proxy cannot be the HTTPS proxy of a client (HTTPS_PROXY). " +
		"Use the proxy's address as the client's base URL of HubSpot's API. If the base URL cannot be changed, the proxy's operator can set INTERCEPT_CA_CERT_FILE and INTERCEPT_CA_KEY_FILE, whose files the command ca generate makes.")
}

// connectMisplaced refuses CONNECT over HTTP/2, and in a tunnel.
func connectMisplaced() *refusal {
	return methodRefused("CONNECT is accepted over HTTP/1.1 only, and not inside a tunnel. Configure the client to reach its HTTPS proxy (HTTPS_PROXY) over HTTP/1.1, and directly.")
}

func methodRefused(message string) *refusal {
	r := newRefusal("METHOD_REFUSED", message)
	r.allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	return r
}

func requestInvalid(message string) *refusal { return newRefusal("REQUEST_INVALID", message) }

func bodyInvalid() *refusal {
	return requestInvalid("The request's body is malformed, or was broken off.")
}

// fromPage refuses a web page's call. A page must not use a portal through a proxy that the
// browser's user can reach.
func fromPage() *refusal {
	return newRefusal("BROWSER_REFUSED",
		"Calls from web pages are refused. Call the proxy from a server, without the headers Origin and Sec-Fetch-*.")
}

// foreignHost refuses a call whose Host may be a web page's own name that resolves to the
// proxy (DNS rebinding).
func foreignHost(loopback bool) *refusal {
	if loopback {
		return newRefusal("BROWSER_REFUSED",
			"This proxy listens on loopback and answers calls without a known client key to localhost and loopback addresses only. Use http://localhost or http://127.0.0.1 as its base URL.")
	}
	return newRefusal("BROWSER_REFUSED",
		"Without a known client key, the proxy answers only to an IP address, a name without a dot, a subdomain of PORTAL_DOMAIN, or a name that its operator lists in ALLOWED_HOSTS. "+
			"Send a known client key, use one of these in the base URL, or have the host name added to ALLOWED_HOSTS.")
}

const (
	sendKey = "Send a known one, as Authorization: Bearer hap_… or hapikey=hap_…. " + makeKey
	makeKey = "The proxy's operator makes client keys with the command client add."
)

// missingKey returns what is wrong with the client key of a call. given means that the call
// has a key.
func missingKey(given bool) string {
	if given {
		return "The client key is not known. A token of HubSpot is not a client key. "
	}
	return "The call has no client key. "
}

func clientUnauthenticated(keyGiven bool) *refusal {
	return newRefusal("CLIENT_UNAUTHENTICATED", missingKey(keyGiven)+sendKey)
}

func clientAmbiguous() *refusal {
	return newRefusal("CLIENT_UNAUTHENTICATED",
		"Several different keys were sent. Send one key, in one place or the same in each: Authorization: Bearer hap_…, hapikey=hap_… or access_token=hap_… in the query.")
}

func clientExpired() *refusal {
	return newRefusal("CLIENT_UNAUTHENTICATED",
		"The client key has expired. Ask the proxy's operator for a new one (command client rotate), and send it as Authorization: Bearer hap_….")
}

// clientForwarded refuses a request without a key that another proxy on this machine has
// forwarded.
func clientForwarded(keyGiven bool) *refusal {
	return newRefusal("CLIENT_UNAUTHENTICATED",
		"The call came through another proxy (it has Forwarded, X-Forwarded-*, X-Real-IP or Via, or is HTTP/1.0), so it may come from any machine and needs a client key. "+missingKey(keyGiven)+sendKey)
}

// clientsUnavailable refuses an unknown key before all clients were loaded, because the key
// may belong to one of them.
func clientsUnavailable() *refusal {
	return newDelay("CREDENTIAL_UNAVAILABLE", time.Second,
		"The client key cannot be checked yet, because the proxy's Redis has not answered since the proxy started. Try again later. The proxy's log has the reason.")
}

func portalRequired() *refusal {
	return newRefusal("PORTAL_REQUIRED",
		"No portal is named. Put /portals/{id} before the path, send the header X-HubSpot-Portal-Id, or ask the proxy's operator to set DEFAULT_PORTAL.")
}

// portalInvalid refuses a text that is not a portal id. The message does not quote the text,
// which may be a client key in the wrong place.
func portalInvalid(where place, domain string) *refusal {
	text, form := "value of the header X-HubSpot-Portal-Id", "X-HubSpot-Portal-Id: 62515"
	switch where {
	case inPath:
		text, form = "part of the path after /portals/", "/portals/62515/crm/v3/objects/contacts"
	case inHost:
		text, form = "part of the host name before ."+domain, "62515."+domain
	}
	return newRefusal("PORTAL_INVALID",
		"The "+text+" is not a portal id. A portal id is HubSpot's Hub ID, digits only: "+form+".")
}

func portalConflict() *refusal {
	return newRefusal("PORTAL_CONFLICT",
		"The request names two different portals. Name one, by /portals/{id} in the path, by the host name or by X-HubSpot-Portal-Id.")
}

func portalNotServed(portal string) *refusal {
	return newRefusal("PORTAL_NOT_CONNECTED",
		"This proxy does not serve portal "+portal+". Its operator can add it to SERVE_PORTALS.")
}

func connectRefused(names []string) *refusal {
	return newRefusal("CONNECT_REFUSED",
		"The proxy opens tunnels to port 443 of "+strings.Join(names, ", ")+" only. Configure the client to call other servers directly, for example by NO_PROXY.")
}

// proxyUnauthenticated refuses a CONNECT request without a known client key.
func proxyUnauthenticated(keyGiven bool) *refusal { return proxyKeyNeeded(missingKey(keyGiven)) }

// proxyMisauthenticated refuses a CONNECT request whose Proxy-Authorization cannot be read.
func proxyMisauthenticated() *refusal {
	return proxyKeyNeeded("Proxy-Authorization is malformed, has two values, or has the client key as the user name. ")
}

func proxyKeyNeeded(problem string) *refusal {
	r := newRefusal("CLIENT_UNAUTHENTICATED",
		problem+"Give a known client key as the password of the HTTPS proxy: HTTPS_PROXY=http://{portal id}:hap_…@{host}:{port}. "+makeKey)
	r.toConnect = true
	return r
}

// tunnelUnauthenticated refuses a request in a tunnel whose key is no longer valid.
func tunnelUnauthenticated() *refusal {
	return newRefusal("CLIENT_UNAUTHENTICATED",
		"The client key that the tunnel was opened with is no longer valid. Give the client another one as the password of the HTTPS proxy. "+makeKey)
}
