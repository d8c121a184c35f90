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

// standard sends requests by http.Transport.
type standard struct {
	transport *http.Transport
	timeout   time.Duration

	http1Once    sync.Once
	withoutHTTP2 func() // called when the server answers with HTTP/1; nil means no callback
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
				err = errProxyURL // err quotes the URL, which may contain a password
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
		// Pings detect a dead HTTP/2 connection in 20 seconds. TCP needs about 15
		// minutes.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxHeader,
		// Otherwise http.Transport would decode answers for which the client asked
		// for an encoding.
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
		s.http1Once.Do(s.withoutHTTP2)
	}
	if response.Body != http.NoBody {
		response.Body = &standardBody{ReadCloser: response.Body, cancel: cancel}
	} else {
		cancel()
	}
	return response, nil
}

// standardBody is the body of an answer from http.Transport. It calls onWait before each
// read, because http.Transport does not report whether a read would block.
type standardBody struct {
	io.ReadCloser
	cancel context.CancelFunc
	onWait func() // nil means no callback
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
