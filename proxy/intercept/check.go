package intercept

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// A Fault is one reason why a CA cannot be used. Its texts contain nothing of the
// certificate's and the key's files.
type Fault struct {
	InKey   bool // the fault is in the key's file, not in the certificate's
	Problem string
	Remedy  string
}

// domains are the domains of HubSpot's API.
func domains() []string { return []string{"hubapi.com", "hubspot.com"} }

// check returns all faults of a CA's certificate.
func check(ca *x509.Certificate, upstreamHost string, now time.Time) (faults []Fault) {
	fault := func(problem, remedy string) {
		faults = append(faults, Fault{Problem: problem, Remedy: remedy})
	}
	const again = "make a CA with ca generate"
	if !ca.BasicConstraintsValid || !ca.IsCA {
		fault("is not the certificate of a CA", again)
	} else if !ca.MaxPathLenZero || ca.MaxPathLen != 0 {
		fault("is a CA that may sign for other CAs: its path length is not 0", again)
	}
	if ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		fault("is not to be used to sign certificates", again)
	}
	switch {
	case len(ca.PermittedDNSDomains) == 0:
		fault("is not limited to HubSpot's names by name constraints", again)
	case !ca.PermittedDNSDomainsCritical:
		fault("has name constraints that are not critical, so that clients may ignore them", again)
	}
	if slices.ContainsFunc(ca.PermittedDNSDomains, func(domain string) bool { return !isHubSpots(domain, upstreamHost) }) {
		fault("may sign for names that are not HubSpot's: its name constraints permit more than hubapi.com and hubspot.com", again)
	}
	if now.Before(ca.NotBefore) {
		fault("is not valid before "+ca.NotBefore.Format(time.DateOnly), "check this machine's clock")
	}
	if now.After(ca.NotAfter) {
		fault("has expired on "+ca.NotAfter.Format(time.DateOnly), again+", and give clients its certificate")
	}
	return faults
}

// isHubSpots reports whether a permitted domain is one of HubSpot's or the upstream's host,
// or a subdomain of these.
func isHubSpots(domain, upstreamHost string) bool {
	domain = strings.ToLower(strings.TrimPrefix(domain, "."))
	return slices.ContainsFunc(append(domains(), upstreamHost), func(ours string) bool {
		return ours != "" && (domain == ours || strings.HasSuffix(domain, "."+ours))
	})
}

// parseCertificates parses PEM text: the CA's certificate, followed by those of the CAs
// above it.
func parseCertificates(text []byte) (chain []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("has a certificate that cannot be read")
		}
		chain = append(chain, certificate)
	}
	if chain == nil {
		return nil, errors.New("has no certificate in it")
	}
	return chain, nil
}

// parseKey parses a private key in PEM. Its errors contain nothing of the text.
func parseKey(text secret.Text) (crypto.Signer, error) {
	for block, rest := pem.Decode([]byte(text.Reveal())); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, errors.New("is encrypted with a password")
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		return nil, errors.New("has a private key that cannot be read")
	}
	return nil, errors.New("has no private key in it")
}
