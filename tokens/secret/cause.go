package secret

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
)

// A Fault is an error in words of ours, which have nothing in them of what the
// other side has sent.
type Fault string

// Error implements error.
func (f Fault) Error() string { return string(f) }

// Cause returns what of an error can be logged without anything that the other
// side has sent: net/http and go-redis quote in their errors what they could
// not understand, which may be an echo of what was sent to it. Nil stays nil.
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
