package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// standard is the way by http.Transport.
type standard struct {
	transport *http.Transport
	timeout   time.Duration

	without      sync.Once
	withoutHTTP2 func() // nil: HTTP/2 is not offered, or nobody needs to know
}

const errProxyURL = secret.Fault("HTTPS_PROXY is not a URL, such as http://127.0.0.1:3128")

func newStandard(config Config) *standard {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(config.HTTP2)
	s := &standard{timeout: config.Timeout, transport: &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			via, err := config.Proxy(r)
			if err != nil {
				err = errProxyURL // its own quotes what may be a password
			}
			return via, err
		},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, response *http.Response) error {
			if response.StatusCode != http.StatusOK {
				return secret.Fault("the HTTPS_PROXY answered CONNECT with status " + strconv.Itoa(response.StatusCode))
			}
			return nil
		},
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:     config.TLS,
		TLSHandshakeTimeout: connectTimeout,
		Protocols:           protocols,
		// A connection that died without a word is found out in seconds, not
		// in the quarter of an hour that TCP takes.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxHeader,
		// Else an answer would be decoded that the client wants encoded.
		DisableCompression: true,
	}}
	if config.HTTP2 && config.URL.Scheme == "https" {
		s.withoutHTTP2 = config.WithoutHTTP2
	}
	return s
}

func (s *standard) roundTrip(r *http.Request) (*http.Response, error) {
	response, cancel, err := watched(s.transport, r, s.timeout)
	if err != nil {
		return nil, err
	}
	if response.ProtoMajor < 2 && s.withoutHTTP2 != nil {
		s.without.Do(s.withoutHTTP2)
	}
	if response.Body != http.NoBody {
		response.Body = &standardBody{ReadCloser: response.Body, cancel: cancel}
	} else {
		cancel()
	}
	return response, nil
}

// standardBody is the body of an answer that http.Transport has returned. What has
// arrived of it is not known: each read may have to wait.
type standardBody struct {
	io.ReadCloser
	cancel context.CancelFunc
	onWait func() // nil: nobody needs to know
}

// OnWait implements Body.
func (b *standardBody) OnWait(f func()) { b.onWait = f }

// Read implements io.Reader.
func (b *standardBody) Read(p []byte) (int, error) {
	if b.onWait != nil {
		b.onWait()
	}
	return b.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (b *standardBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
