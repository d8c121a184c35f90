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

// tlsConfig returns how the proxy serves TLS, nil if it does not.
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

func readCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("has no certificate in it")
	}
	return pool, nil
}

// keyPair is a certificate that is replaced when its files are, as by
// cert-manager. It is safe for concurrent use.
type keyPair struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time // of the certificate's file, when it was loaded
}

// get returns the certificate for a new connection. As long as changed files
// cannot be used, it is the former one.
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
