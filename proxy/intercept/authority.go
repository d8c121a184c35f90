package intercept

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// The validity of the certificates that an [Authority] issues. backdated is for clients
// whose clock is slow. A certificate that expires within renewAhead is replaced before its
// next use.
const (
	life       = 24 * time.Hour
	backdated  = time.Hour
	renewAhead = 6 * time.Hour
)

// hubspotNames returns the host names of HubSpot's API.
func hubspotNames() []string { return []string{"api.hubapi.com", "api.hubspot.com"} }

// An Authority issues certificates for HubSpot's host names only, and keeps the
// certificates in memory. An Authority is safe for concurrent use.
//
// No field holds the CA's key, so printing an Authority, or a value that contains one, cannot
// print the key.
type Authority struct {
	names    []string
	notAfter time.Time // of the CA
	now      func() time.Time
	issue    func(name string, now time.Time) (*tls.Certificate, error)

	mu     sync.Mutex
	issued map[string]*tls.Certificate
}

// Load returns the authority for a CA's certificate and key, both in PEM. upstreamHost is
// another name that clients may use, if the CA may sign for it. A nil now means time.Now.
//
// Load returns all faults of the CA together. A CA must be limited to HubSpot's names by
// critical name constraints, and must not sign other CAs, because clients trust it for
// everything that it can sign.
func Load(certificate []byte, key secret.Text, upstreamHost string, now func() time.Time) (*Authority, []Fault) {
	if now == nil {
		now = time.Now
	}
	chain, err := parseCertificates(certificate)
	if err != nil {
		return nil, []Fault{{Problem: err.Error(), Remedy: "give the file ca.pem that ca generate wrote"}}
	}
	faults := check(chain[0], strings.ToLower(upstreamHost), now())
	signer, err := parseKey(key)
	switch {
	case err != nil:
		faults = append(faults, Fault{InKey: true, Problem: err.Error(), Remedy: "give the file ca-key.pem that ca generate wrote"})
	case !samePublic(chain[0].PublicKey, signer.Public()):
		faults = append(faults, Fault{InKey: true, Problem: "is not the key of the certificate in INTERCEPT_CA_CERT_FILE", Remedy: "give the two files that ca generate wrote together"})
	}
	if faults != nil {
		return nil, faults
	}
	a := &Authority{now: now, notAfter: chain[0].NotAfter, issue: issuer(chain, signer), issued: make(map[string]*tls.Certificate)}
	if a.names, err = a.signable(chain[0], strings.ToLower(upstreamHost)); err != nil {
		return nil, []Fault{{Problem: err.Error(), Remedy: "make a CA with ca generate"}}
	}
	return a, nil
}

// samePublic reports whether two public keys are the same.
func samePublic(one, other any) bool {
	key, ok := one.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(other)
}

// issuer returns a function that makes a certificate for a name. Only that function can
// reach the CA's key.
func issuer(chain []*x509.Certificate, signer crypto.Signer) func(string, time.Time) (*tls.Certificate, error) {
	ca := chain[0]
	return func(name string, now time.Time) (*tls.Certificate, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make a key for %s: %w", name, err)
		}
		begin := now.Add(-backdated)
		end := begin.Add(life)
		if end.After(ca.NotAfter) {
			end = ca.NotAfter
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			Subject:               pkix.Name{CommonName: name},
			DNSNames:              []string{name},
			NotBefore:             begin,
			NotAfter:              end,
			KeyUsage:              x509.KeyUsageDigitalSignature,
			ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			BasicConstraintsValid: true,
		}, ca, &key.PublicKey, signer)
		if err != nil {
			return nil, fmt.Errorf("sign a certificate for %s: %w", name, err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for %s: %w", name, err)
		}
		made := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
		for _, intermediate := range chain {
			if !slices.Equal(intermediate.RawSubject, intermediate.RawIssuer) { // clients have the root
				made.Certificate = append(made.Certificate, intermediate.Raw)
			}
		}
		return made, nil
	}
}

// signable returns HubSpot's names and the upstream's host, without those that the CA cannot
// sign for. It never returns an IP address, because clients do not send one as the TLS server
// name.
func (a *Authority) signable(ca *x509.Certificate, upstreamHost string) (names []string, err error) {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, name := range append(hubspotNames(), upstreamHost) {
		if name == "" || net.ParseIP(name) != nil || slices.Contains(names, name) {
			continue
		}
		made, issueErr := a.issue(name, a.now())
		if issueErr != nil {
			return nil, issueErr
		}
		_, verifyErr := made.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: a.now()})
		if verifyErr == nil {
			names = append(names, name)
		} else if name != upstreamHost {
			err = fmt.Errorf("signs no certificate that is valid for %s: %w", name, verifyErr)
		}
	}
	if len(names) == 0 {
		return nil, err
	}
	return names, nil
}

// Names returns the names that certificates are issued for.
func (a *Authority) Names() []string { return slices.Clone(a.names) }

// NotAfter returns the end of the CA's validity.
func (a *Authority) NotAfter() time.Time { return a.notAfter }

// Target returns the host name in the target of a CONNECT request, in lower case. ok is
// false unless the name is one of [Authority.Names] and the port is 443.
func (a *Authority) Target(authority string) (name string, ok bool) {
	name, ok = strings.CutSuffix(strings.ToLower(authority), ":443")
	if !ok || !slices.Contains(a.names, name) {
		return "", false
	}
	return name, true
}

// Certificate returns a certificate for one of [Authority.Names]. Certificate returns
// the same certificate until that certificate has to be replaced.
func (a *Authority) Certificate(name string) (*tls.Certificate, error) {
	if !slices.Contains(a.names, name) {
		return nil, errors.New("no certificate is issued for that name")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.After(a.notAfter) {
		return nil, errors.New("the CA of INTERCEPT_CA_CERT_FILE has expired; make another with ca generate")
	}
	if held := a.issued[name]; held != nil && now.Before(held.Leaf.NotAfter.Add(-renewAhead)) {
		return held, nil
	}
	made, err := a.issue(name, now)
	if err != nil {
		return nil, err
	}
	a.issued[name] = made
	return made, nil
}
