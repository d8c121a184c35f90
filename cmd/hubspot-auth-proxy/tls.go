package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/tokens/secret"
)

// tlsConfig returns the TLS configuration of the proxy's listener; nil means plain HTTP.
func tlsConfig(settings config.Config) (*tls.Config, config.Faults) {
	pair, faults := loadPair("TLS_CERT_FILE", settings.TLSCertFile, "TLS_KEY_FILE", settings.TLSKeyFile)
	pool, more := loadCAs("TLS_CLIENT_CA_FILE", settings.TLSClientCAFile)
	if pair == nil {
		return nil, append(faults, more...)
	}
	served := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	if pool != nil {
		served.ClientCAs, served.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return served, more
}

// redisTLS returns a function that sets the certificates of the settings in the TLS
// configuration of the Redis client.
func redisTLS(settings config.Config) (change func(*tls.Config), faults config.Faults) {
	pool, faults := loadCAs("REDIS_TLS_CA_FILE", settings.RedisTLSCAFile)
	pair, more := loadPair("REDIS_TLS_CERT_FILE", settings.RedisTLSCertFile, "REDIS_TLS_KEY_FILE", settings.RedisTLSKeyFile)
	return func(c *tls.Config) {
		if pool != nil {
			c.RootCAs = pool
		}
		if pair != nil {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(nil) }
		}
	}, append(faults, more...)
}

// loadPair loads the certificate and key of two settings. The result is nil if the settings
// name no files, or if there is a fault.
func loadPair(certName, certFile, keyName, keyFile string) (*keyPair, config.Faults) {
	if certFile == "" {
		return nil, nil
	}
	pair := &keyPair{certFile: certFile, keyFile: keyFile}
	if err := pair.load(); err != nil {
		return nil, config.Faults{{Name: certName, Problem: fmt.Sprintf("cannot be used with %s: %v", keyName, err), Remedy: "give a PEM certificate chain and its key"}}
	}
	return pair, nil
}

// loadCAs loads the certificates of a setting. The result is nil if the setting names no
// file, or if there is a fault.
func loadCAs(name, path string) (*x509.CertPool, config.Faults) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New("contains no certificate")
	}
	if err != nil {
		return nil, config.Faults{{Name: name, Problem: err.Error(), Remedy: "give a file of PEM certificates"}}
	}
	return pool, nil
}

// A keyPair is a certificate that is loaded again when its files have been replaced, as
// cert-manager does. It is safe for concurrent use.
type keyPair struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time // of the certificate's file, when it was loaded
}

// get returns the certificate for a new connection. If the changed files cannot be used, get
// returns the previous certificate.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if info, err := os.Stat(p.certFile); err == nil && !info.ModTime().Equal(p.changed) {
		_ = p.load()
	}
	return p.current, nil
}

func (p *keyPair) load() error {
	info, err := os.Stat(p.certFile)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.current, p.changed = &pair, info.ModTime()
	return nil
}

// interceptAuthority returns the CA that the settings name, or nil if they name none.
func interceptAuthority(settings config.Config) (*intercept.Authority, config.Faults) {
	if settings.InterceptCACertFile == "" {
		return nil, nil
	}
	// An error is ignored here, because config.Load has read both files. If a file was
	// deleted since then, intercept.Load reports its empty content.
	certificate, _ := os.ReadFile(settings.InterceptCACertFile)
	key, _ := os.ReadFile(settings.InterceptCAKeyFile)
	authority, problems := intercept.Load(certificate, secret.New(string(key)), settings.UpstreamURL.Hostname(), nil)
	var faults config.Faults
	for _, problem := range problems {
		name := "INTERCEPT_CA_CERT_FILE"
		if problem.InKey {
			name = "INTERCEPT_CA_KEY_FILE"
		}
		faults = append(faults, config.Fault{Name: name, Problem: problem.Problem, Remedy: problem.Remedy})
	}
	return authority, faults
}
