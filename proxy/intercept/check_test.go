package intercept_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/tokens/secret"
)

// selfSigned returns a certificate that a key signs for itself, and the key.
func selfSigned(t *testing.T, private crypto.Signer, change func(*x509.Certificate)) (certificate []byte, key secret.Text) {
	t.Helper()
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "a CA of the operator's own"},
		NotBefore:                   time.Now().Add(-time.Hour),
		NotAfter:                    time.Now().Add(time.Hour),
		KeyUsage:                    x509.KeyUsageCertSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomains:         []string{"hubapi.com", "hubspot.com"},
		PermittedDNSDomainsCritical: true,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestACAThatMaySignForMoreThanHubSpotIsNotUsed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		want   string // of the fault; empty: none
	}{
		"as it should be":           {func(*x509.Certificate) {}, ""},
		"without key usage":         {func(c *x509.Certificate) { c.KeyUsage = 0 }, ""},
		"below HubSpot's":           {func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"api.hubapi.com"} }, ""},
		"for the upstream too":      {func(c *x509.Certificate) { c.PermittedDNSDomains = append(c.PermittedDNSDomains, "hub.example") }, ""},
		"no CA":                     {func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }, "not the certificate of a CA"},
		"not for signing":           {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "not to be used to sign"},
		"without a path length":     {func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = -1, false }, "path length"},
		"a path length of 1":        {func(c *x509.Certificate) { c.MaxPathLen = 1 }, "path length"},
		"no constraints":            {func(c *x509.Certificate) { c.PermittedDNSDomains = nil }, "not limited"},
		"only exclusions":           {func(c *x509.Certificate) { c.PermittedDNSDomains, c.ExcludedDNSDomains = nil, []string{"example.com"} }, "not limited"},
		"constraints not critical":  {func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false }, "not critical"},
		"a top level":               {func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"com"} }, "not HubSpot's"},
		"everything":                {func(c *x509.Certificate) { c.PermittedDNSDomains = []string{""} }, "not HubSpot's"},
		"one more":                  {func(c *x509.Certificate) { c.PermittedDNSDomains = append(c.PermittedDNSDomains, "evil.example") }, "not HubSpot's"},
		"one that ends alike":       {func(c *x509.Certificate) { c.PermittedDNSDomains = append(c.PermittedDNSDomains, "nothubapi.com") }, "not HubSpot's"},
		"HubSpot's names excluded":  {func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"hubapi.com", "hubspot.com"} }, "signs no certificate that is valid for api.hub"},
		"none of HubSpot's":         {func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"app.hubspot.com"} }, "signs no certificate that is valid for api.hub"},
		"expired":                   {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "expired"},
		"not valid yet":             {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "not valid before"},
		"for clients' certificates": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "signs no certificate"},
	} {
		certificate, key := selfSigned(t, newKey(t), test.change)
		authority, faults := intercept.Load(certificate, key, "hub.example", nil)
		if test.want == "" {
			if faults != nil || authority == nil {
				t.Errorf("%s: %v", name, faults)
			}
			continue
		}
		if authority != nil || len(faults) == 0 || faults[0].InKey || !strings.Contains(faults[0].Problem, test.want) || faults[0].Remedy == "" {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func TestAllFaultsOfACAAreReportedTogether(t *testing.T) {
	certificate, _ := selfSigned(t, newKey(t), func(c *x509.Certificate) {
		c.MaxPathLenZero, c.PermittedDNSDomains, c.NotAfter = false, nil, time.Now().Add(-time.Minute)
	})
	_, key := generate(t)
	if _, faults := intercept.Load(certificate, key, "", nil); len(faults) != 4 || !faults[3].InKey {
		t.Errorf("%d: %v", len(faults), faults)
	}
}

func TestOnlyAKeyOfTheCertificateIsUsed(t *testing.T) {
	certificate, key := generate(t)
	otherCertificate, otherKey := generate(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCertificate, rsaText := selfSigned(t, rsaKey, func(*x509.Certificate) {})
	pkcs1 := secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})))
	private := newKey(t).(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ecCertificate, _ := selfSigned(t, private, func(*x509.Certificate) {})
	ecText := secret.New("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})))
	chain := string(certificate) + string(otherCertificate)

	for name, test := range map[string]struct {
		certificate string
		key         secret.Text
		want        string
		inKey       bool
	}{
		"generated":           {string(certificate), key, "", false},
		"with another behind": {chain, key, "", false},
		"RSA":                 {string(rsaCertificate), rsaText, "", false},
		"PKCS #1":             {string(rsaCertificate), pkcs1, "", false},
		"SEC 1":               {string(ecCertificate), ecText, "", false},
		"another key":         {string(certificate), otherKey, "is not the key", true},
		"of another kind":     {string(certificate), rsaText, "is not the key", true},
		"of the second":       {chain, otherKey, "is not the key", true},
		"a certificate":       {string(certificate), secret.New(string(certificate)), "no private key", true},
		"empty":               {string(certificate), secret.Text{}, "no private key", true},
		"garbage in PEM":      {string(certificate), secret.New("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "cannot be read", true},
		"encrypted":           {string(certificate), secret.New("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "encrypted", true},
		"encrypted, older":    {string(certificate), secret.New("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), "encrypted", true},
		"swapped":             {key.Reveal(), secret.New(string(certificate)), "no certificate", false},
		"no PEM":              {"garbage", key, "no certificate", false},
		"garbage in it":       {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key, "cannot be read", false},
	} {
		authority, faults := intercept.Load([]byte(test.certificate), test.key, "", nil)
		if test.want == "" {
			if faults != nil || authority == nil {
				t.Errorf("%s: %v", name, faults)
			}
			continue
		}
		if authority != nil || len(faults) != 1 || faults[0].InKey != test.inKey || !strings.Contains(faults[0].Problem, test.want) {
			t.Errorf("%s: %v", name, faults)
		}
		for _, fault := range faults {
			if line := strings.Split(test.key.Reveal()+"\nAAAA\n", "\n")[1]; strings.Contains(fault.Problem+fault.Remedy, line) {
				t.Errorf("%s: the fault quotes the key", name)
			}
		}
	}
}
