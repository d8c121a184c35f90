package notify

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// isTLS reports whether err is an error of TLS, such as a certificate that is not trusted.
func isTLS(err error) bool {
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	_, isAlert := errors.AsType[tls.AlertError](err)
	_, isHost := errors.AsType[x509.HostnameError](err)
	_, isAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	return isCertificate || isRecord || isAlert || isHost || isAuthority
}
