package intercept

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// caYears is how long a generated CA is valid.
const caYears = 5

// Generate returns a new CA for [Load], certificate and key in PEM. Anyone with the key can
// impersonate HubSpot's API to clients that trust the CA, and nothing else: the CA is limited
// to names in hubapi.com and hubspot.com, to server certificates, and cannot sign other CAs.
func Generate(now time.Time) (certificate []byte, key secret.Text, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, secret.Text{}, fmt.Errorf("make the CA's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "hubspot-auth-proxy CA " + now.UTC().Format(time.DateOnly)},
		NotBefore:                   now.Add(-backdated),
		NotAfter:                    now.AddDate(caYears, 0, 0),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomains:         domains(),
		PermittedDNSDomainsCritical: true,
		// Name constraints do not limit IP addresses, so exclude all of them.
		ExcludedIPRanges: []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, secret.Text{}, fmt.Errorf("sign the CA's certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, secret.Text{}, fmt.Errorf("encode the CA's key: %w", err)
	}
	key = secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, nil
}
