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
)

// tlsConfig returns the TLS configuration of the proxy's listener; nil means plain HTTP.
func tlsConfig(settings config.Config) (served *tls.Config, faults config.Faults) {
	if settings.TLSCertFile == "" {
		return nil, nil
	}
	pair := &keyPair{certFile: settings.TLSCertFile, keyFile: settings.TLSKeyFile}
	if err := pair.load(); err != nil {
		faults = append(faults, config.Fault{Name: "TLS_CERT_FILE", Problem: fmt.Sprintf("cannot be used with TLS_KEY_FILE: %v", err), Remedy: "give a PEM certificate chain and its key"})
	}
	served = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	if settings.TLSClientCAFile != "" {
		pool, err := readCAs(settings.TLSClientCAFile)
		if err != nil {
			faults = append(faults, config.Fault{Name: "TLS_CLIENT_CA_FILE", Problem: err.Error(), Remedy: "give a file of PEM certificates"})
		}
		served.ClientCAs, served.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return served, faults
}

// redisTLS returns a function that sets the certificates of the settings in the TLS
// configuration of the Redis client.
func redisTLS(settings config.Config) (change func(*tls.Config), faults config.Faults) {
	var pool *x509.CertPool
	var pair *keyPair
	if path := settings.RedisTLSCAFile; path != "" {
		var err error
		if pool, err = readCAs(path); err != nil {
			faults = append(faults, config.Fault{Name: "REDIS_TLS_CA_FILE", Problem: err.Error(), Remedy: "give a file of PEM certificates"})
		}
	}
	if settings.RedisTLSCertFile != "" {
		pair = &keyPair{certFile: settings.RedisTLSCertFile, keyFile: settings.RedisTLSKeyFile}
		if err := pair.load(); err != nil {
			faults = append(faults, config.Fault{Name: "REDIS_TLS_CERT_FILE", Problem: fmt.Sprintf("cannot be used with REDIS_TLS_KEY_FILE: %v", err), Remedy: "give a PEM certificate chain and its key"})
		}
	}
	return func(c *tls.Config) {
		if pool != nil {
			c.RootCAs = pool
		}
		if pair != nil {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(nil) }
		}
	}, faults
}

func readCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("contains no certificate")
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
