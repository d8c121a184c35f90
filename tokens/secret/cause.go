package secret

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// A Fault is an error whose text is a constant of this program. A Fault can be logged,
// because its text contains nothing that the peer has sent.
type Fault string

// Error implements error.
func (f Fault) Error() string { return string(f) }

// Cause returns an error that can be logged instead of err, because it contains nothing that
// the peer has sent. Errors of net/http and go-redis quote input that they cannot parse, and
// that input may repeat a secret of the request. So Cause shows only the type of an error that it
// does not know. Cause returns nil for nil.
func Cause(err error) error {
	if err == nil {
		return nil
	}
	if fault, is := errors.AsType[Fault](err); is {
		return fault
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	if operation, is := errors.AsType[*net.OpError](err); is {
		return operation
	}
	if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() {
		return errors.New("timeout")
	}
	if certificate, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return certificate
	}
	if _, is := errors.AsType[tls.RecordHeaderError](err); is || errors.Is(err, http.ErrSchemeMismatch) {
		return errors.New("the other side does not use TLS")
	}
	if alert, is := errors.AsType[tls.AlertError](err); is {
		return alert
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "server closed idle connection") {
		return errors.New("the connection was closed")
	}
	return fmt.Errorf("an error of type %T, usually because the answer could not be parsed; its text may repeat a secret and is not shown", innermost(err))
}

// innermost returns the error that err wraps and that wraps no other error. If an error wraps
// several errors, innermost follows the first.
func innermost(err error) error {
	for {
		var inner error
		switch wrapper := err.(type) {
		case interface{ Unwrap() error }:
			inner = wrapper.Unwrap()
		case interface{ Unwrap() []error }:
			if wrapped := wrapper.Unwrap(); len(wrapped) > 0 {
				inner = wrapped[0]
			}
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Class returns an error that says why a request has failed, such as "timeout" or "its host name is
// not found". The error contains neither what the peer has sent nor the address, so it can be logged
// when the address is a secret. If the address may be logged, [Cause] says more.
func Class(err error) error {
	cause := Cause(err)
	switch failed := cause.(type) {
	case *tls.CertificateVerificationError:
		return errors.New("its certificate is not valid")
	case *net.OpError:
		_, isDNS := errors.AsType[*net.DNSError](failed)
		switch {
		case failed.Timeout():
			return errors.New("timeout")
		case isDNS:
			return errors.New("its host name is not found")
		case failed.Op == "remote error" || failed.Op == "local error": // alerts of crypto/tls
			return errors.New("the TLS handshake fails")
		}
		return errors.New("it cannot be reached")
	}
	return cause
}
