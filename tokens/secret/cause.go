package secret

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
)

// A Fault is an error whose text is written in this program and contains nothing that the
// peer has sent. So it can be logged.
type Fault string

// Error implements error.
func (f Fault) Error() string { return string(f) }

// Cause returns an error that is safe to log instead of err: it contains nothing that the
// peer has sent. Errors of net/http and go-redis quote input that they cannot parse, and
// that may repeat a secret that was sent. Cause returns nil for nil.
func Cause(err error) error {
	var fault Fault
	var timeout net.Error
	var operation *net.OpError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fault):
		return fault
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &operation):
		return operation
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timeout")
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &record):
		return errors.New("the other side does not speak TLS")
	case errors.As(err, &alert):
		return alert
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "server closed idle connection"):
		return errors.New("the connection was closed")
	default:
		return errors.New("its answer could not be understood")
	}
}
