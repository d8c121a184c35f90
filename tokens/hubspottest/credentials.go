package hubspottest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The values of [Echo.Credential].
const (
	CredentialOAuth       = "oauth"        // an OAuth access token as Bearer
	CredentialAccessToken = "access_token" // a private app's static token as Bearer
	CredentialAPIKey      = "api_key"      // a hapikey in the query
)

// verdict is the result of the check of a request's credential.
type verdict struct {
	portal  string // the credential's portal, also of an expired one; empty means unknown
	kind    string // as in Echo.Credential
	refusal any    // the body of the 401; nil means that the credential is valid
}

// admit counts the request and checks its credential.
func (s *Server) admit(r *http.Request) verdict {
	var v verdict
	if strings.HasPrefix(r.URL.Path, "/oauth/") {
		s.change(func(c *counts) { c.requests++ })
		return v
	}
	authorizations, keys := r.Header.Values("Authorization"), apiKeys(r.URL.RawQuery)
	violation := violationOf(len(authorizations), len(keys))
	s.change(func(c *counts) {
		switch {
		case violation != "":
			c.violations = append(c.violations, r.Method+" "+r.URL.Path+": "+violation)
			v.refusal = invalidCredential()
		case len(keys) == 1:
			v = s.ledger.judgeAPIKey(keys[0])
		case len(authorizations) == 1:
			v = s.ledger.judgeBearer(authorizations[0])
		default:
			v.refusal = invalidCredential()
		}
		c.requests++
		if p := s.ledger.portals[v.portal]; p != nil {
			p.requests++
		}
	})
	return v
}

// apiKeys returns the values of all hapikey parameters, also if the name is escaped. It
// also reads parameters that url.ParseQuery refuses, because HubSpot may be more lenient
// than Go.
func apiKeys(rawQuery string) []string {
	var keys []string
	for parameter := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		if unescaped, err := url.QueryUnescape(name); err != nil || unescaped != "hapikey" {
			continue
		}
		if unescaped, err := url.QueryUnescape(value); err == nil {
			value = unescaped
		}
		keys = append(keys, value)
	}
	return keys
}

// violationOf describes the violation of a request that has these numbers of credentials. It
// returns "" if there is none.
func violationOf(authorizations, keys int) string {
	switch {
	case authorizations > 0 && keys > 0:
		return "Authorization and hapikey at once"
	case authorizations > 1:
		return "several Authorization headers"
	case keys > 1:
		return "several hapikeys"
	}
	return ""
}

func (l *ledger) judgeAPIKey(key string) verdict {
	p := l.apiKeys[key]
	if p == nil {
		return verdict{refusal: invalidAPIKey()}
	}
	v := verdict{portal: p.name, kind: CredentialAPIKey}
	if p.rejected {
		v.refusal = invalidAPIKey()
	}
	return v
}

func (l *ledger) judgeBearer(authorization string) verdict {
	scheme, token, _ := strings.Cut(authorization, " ")
	t := l.bearers[token]
	if !strings.EqualFold(scheme, "Bearer") || t == nil {
		return verdict{refusal: invalidCredential()}
	}
	v := verdict{portal: t.portal.name, kind: t.kind}
	now := time.Now()
	switch {
	case t.portal.rejected || t.revoked:
		v.refusal = invalidCredential()
	case !t.expires.IsZero() && !now.Before(t.expires):
		v.refusal = expiredCredential(t.expires, now)
	}
	return v
}
