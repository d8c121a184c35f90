package intercept_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/tokens/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// generate makes a CA.
func generate(t testing.TB) (certificate []byte, key secret.Text) {
	t.Helper()
	certificate, key, err := intercept.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// load makes a CA and loads it, for an upstream with that host.
func load(t testing.TB, upstreamHost string, now func() time.Time) (*intercept.Authority, *x509.Certificate) {
	t.Helper()
	certificate, key := generate(t)
	authority, faults := intercept.Load(certificate, key, upstreamHost, now)
	if faults != nil {
		t.Fatal(faults)
	}
	return authority, parse(t, certificate)
}

func parse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %s", text)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func poolOf(certificate *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return pool
}

func TestAGeneratedCAIsLimitedToHubSpotsNames(t *testing.T) {
	certificate, key := generate(t)
	ca := parse(t, certificate)
	if !ca.IsCA || ca.MaxPathLen != 0 || !ca.MaxPathLenZero || !ca.PermittedDNSDomainsCritical {
		t.Errorf("CA %v, path length %d, critical constraints %v", ca.IsCA, ca.MaxPathLen, ca.PermittedDNSDomainsCritical)
	}
	if diff := cmp.Diff([]string{"hubapi.com", "hubspot.com"}, ca.PermittedDNSDomains); diff != "" {
		t.Errorf("permitted (-want +got):\n%s", diff)
	}
	for name, valid := range map[string]bool{
		"api.hubapi.com": true, "api.hubspot.com": true, "hubapi.com": true,
		"evil.example": false, "hubapi.com.evil.example": false, "nothubapi.com": false, "localhost": false,
		"127.0.0.1": false, "::1": false,
	} {
		pair := pairOf(t, certificate, key)
		leaf, _ := signed(t, pair.Leaf, pair.PrivateKey, &x509.Certificate{DNSNames: names(name), IPAddresses: addresses(name), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: hostOf(name), Roots: poolOf(ca)})
		if (err == nil) != valid {
			t.Errorf("a certificate for %s that the CA's key signs: %v", name, err)
		}
	}
	pair := pairOf(t, certificate, key)
	middle, middleKey := signed(t, pair.Leaf, pair.PrivateKey, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	end, _ := signed(t, middle, middleKey, &x509.Certificate{DNSNames: []string{"api.hubapi.com"}})
	if _, err := end.Verify(x509.VerifyOptions{Roots: poolOf(ca), Intermediates: poolOf(middle)}); err == nil {
		t.Error("the CA can sign for another CA")
	}
}

func pairOf(t testing.TB, certificate []byte, key secret.Text) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(certificate, []byte(key.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// signed returns a certificate that a CA signs, and its key.
func signed(t testing.TB, ca *x509.Certificate, caKey any, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func names(name string) []string {
	if net.ParseIP(name) != nil {
		return nil
	}
	return []string{name}
}

func addresses(name string) []net.IP {
	if ip := net.ParseIP(name); ip != nil {
		return []net.IP{ip}
	}
	return nil
}

func hostOf(name string) string {
	if strings.Contains(name, ":") {
		return "[" + name + "]"
	}
	return name
}

func TestCertificatesAreForHubSpotsNamesOnly(t *testing.T) {
	for upstream, want := range map[string][]string{
		"":                    {"api.hubapi.com", "api.hubspot.com"},
		"api.hubapi.com":      {"api.hubapi.com", "api.hubspot.com"},
		"API-EU1.hubapi.com":  {"api.hubapi.com", "api.hubspot.com", "api-eu1.hubapi.com"},
		"127.0.0.1":           {"api.hubapi.com", "api.hubspot.com"},
		"::1":                 {"api.hubapi.com", "api.hubspot.com"},
		"hubspot.example.com": {"api.hubapi.com", "api.hubspot.com"}, // the CA may not sign for it
	} {
		authority, ca := load(t, upstream, nil)
		if diff := cmp.Diff(want, authority.Names()); diff != "" {
			t.Errorf("upstream %s (-want +got):\n%s", upstream, diff)
		}
		for _, name := range want {
			made, err := authority.Certificate(name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{name}, made.Leaf.DNSNames); diff != "" || len(made.Leaf.IPAddresses) > 0 || made.Leaf.IsCA {
				t.Errorf("the certificate is for %q and %v", made.Leaf.DNSNames, made.Leaf.IPAddresses)
			}
			if _, err := made.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: poolOf(ca)}); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{"", "evil.example", "hubapi.com", "x.hubapi.com", "API.HUBAPI.COM", "api.hubapi.com.", "127.0.0.1", "hubspot.example.com", "*.hubapi.com"} {
			if made, err := authority.Certificate(name); err == nil {
				t.Errorf("a certificate for %q: %v", name, made.Leaf.DNSNames)
			}
		}
	}
}

func TestACertificateLives24HoursAndIsReplacedBefore(t *testing.T) {
	now := time.Now()
	authority, ca := load(t, "", func() time.Time { return now })
	first, err := authority.Certificate("api.hubapi.com")
	if err != nil {
		t.Fatal(err)
	}
	if life := first.Leaf.NotAfter.Sub(first.Leaf.NotBefore); life != 24*time.Hour {
		t.Errorf("it lives %v", life)
	}
	held, replaced := first, 0
	for range 200 { // hours
		now = now.Add(time.Hour)
		got, err := authority.Certificate("api.hubapi.com")
		if err != nil {
			t.Fatal(err)
		}
		if left := got.Leaf.NotAfter.Sub(now); left < 5*time.Hour {
			t.Errorf("a certificate that ends in %v", left)
		}
		if got != held {
			held, replaced = got, replaced+1
			if got.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(first.Leaf.PublicKey) || got.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
				t.Error("with the same key or number")
			}
		}
	}
	if replaced < 8 || replaced > 13 {
		t.Errorf("replaced %d times in 200 hours", replaced)
	}

	// It never ends after the CA does, and without the CA there is none.
	now = ca.NotAfter.Add(-time.Hour)
	last, err := authority.Certificate("api.hubapi.com")
	if err != nil || !last.Leaf.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("%v, until %v", err, last.Leaf.NotAfter)
	}
	now = ca.NotAfter.Add(time.Hour)
	if _, err := authority.Certificate("api.hubapi.com"); err == nil || !strings.Contains(err.Error(), "ca generate") {
		t.Errorf("the CA has expired: %v", err)
	}
}

func TestATargetIsOneOfTheNamesAtPort443(t *testing.T) {
	authority, _ := load(t, "", nil)
	for target, want := range map[string]string{
		"api.hubapi.com:443": "api.hubapi.com", "API.HubAPI.com:443": "api.hubapi.com", "api.hubspot.com:443": "api.hubspot.com",
		"api.hubapi.com": "", "api.hubapi.com:": "", "api.hubapi.com:80": "", "api.hubapi.com:8443": "", "api.hubapi.com:0443": "", "api.hubapi.com:443:443": "",
		"api.hubapi.com.:443": "", "[api.hubapi.com]:443": "", "user@api.hubapi.com:443": "", "https://api.hubapi.com:443": "", "//api.hubapi.com:443": "",
		"app.hubspot.com:443": "", "evil.example:443": "", "127.0.0.1:443": "", "[::1]:443": "", "localhost:443": "", ":443": "", "": "",
		"api.hubapi.com:443/": "", "api.hubapi.com%00:443": "", "api.hubapi.com\x00:443": "", "api%2ehubapi.com:443": "", "evil.example:443#api.hubapi.com:443": "",
	} {
		if name, ok := authority.Target(target); name != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", target, name, ok)
		}
	}
}

func TestNothingPrintsTheKeyOfTheCA(t *testing.T) {
	certificate, key := generate(t)
	authority, faults := intercept.Load(certificate, key, "", nil)
	if faults != nil {
		t.Fatal(faults)
	}
	private := pairOf(t, certificate, key).PrivateKey.(*ecdsa.PrivateKey)
	scalar, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(key.Reveal()))
	forms := []string{
		strings.Split(key.Reveal(), "\n")[1], fmt.Sprintf("%x", scalar), fmt.Sprintf("%d", scalar)[1:40], new(big.Int).SetBytes(scalar).String(), fmt.Sprintf("%x", block.Bytes),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		text := fmt.Sprintf(verb, struct{ A any }{authority}) + fmt.Sprintf(verb, key)
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Errorf("%s prints the key", verb)
			}
		}
	}
}
