package proxy

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// http1 sends requests to HubSpot over HTTP/1.1. Unlike http.Transport it has no
// goroutines of its own, which a request would be handed to and fro between, and
// does not use a connection again on which HubSpot has said more than it was
// asked.
type http1 struct {
	dial     func(ctx context.Context) (*conn, error)
	patience time.Duration // from a request's last byte until the answer's header; zero: any
	timed    bool          // the client's answers are flushed by time, see flushInterval
	idle     idle
	buffers  bufferPool
}

const (
	// continueTime is how long a body is held back that HubSpot has not asked
	// for yet, after Expect: 100-continue (RFC 9110 section 10.1.1).
	continueTime = time.Second

	// sentTime is how long an answer that has been read waits for its request
	// to be known to be sent, for the connection to be used again.
	sentTime = 10 * time.Millisecond
)

// RoundTrip implements http.RoundTripper, for requests whose context has a
// call. A connection that HubSpot was just closing as it was used again does not
// fail a request that can be sent on another one: because nothing of it has
// left, or because it changes nothing.
func (h *http1) RoundTrip(r *http.Request) (*http.Response, error) {
	if c := h.idle.take(); c != nil {
		response, err := h.exchange(c, r)
		if err == nil || !c.mayRepeat(r) {
			return response, err
		}
		if r.Body != nil {
			_ = r.Body.Close() // what is just being read is kept for the next one then
		}
		again, gone := renewed(r)
		if gone != nil {
			return nil, err
		}
		r = again
	}
	c, err := h.dial(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return h.exchange(c, r)
}

// renewed returns the request with its body from the beginning, for another
// connection. The body as it was may still be read for the first one.
func renewed(r *http.Request) (again *http.Request, err error) {
	again = r.WithContext(r.Context())
	if r.Body != nil {
		again.Body, err = r.GetBody()
	}
	return again, err
}

// mayRepeat reports whether a request that has failed on the connection may be
// sent once more.
func (c *conn) mayRepeat(r *http.Request) bool {
	if r.Context().Err() != nil || c.heard || c.late {
		return false
	}
	if !c.raw.hasWritten() {
		return true
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.Body == nil
	}
	return false
}

// exchange is one request and its answer on a connection.
type exchange struct {
	*conn
	http1   *http1
	request *http.Request
	call    *call
	release func() bool // lets go of the request's context; false: that has ended

	proceed chan bool     // whether the body is asked for; nil: it is sent at once
	sent    chan struct{} // closed when the request was sent, or could not be; nil: it was
	failure error         // of sending
	headed  atomic.Bool   // the answer's header has come
}

// exchange sends the request, and returns the answer. Its body is still to be
// read, which ends with the connection idle, or closed.
func (h *http1) exchange(c *conn, r *http.Request) (*http.Response, error) {
	e := &exchange{conn: c, http1: h, request: r, call: callOf(r.Context())}
	c.heard, c.left = false, maxHeader
	c.raw.begin(h.patience)
	e.release = context.AfterFunc(r.Context(), c.cut)
	if err := e.send(); err != nil {
		return nil, e.fail(err)
	}
	response, err := e.receive()
	if err != nil {
		return nil, e.fail(err)
	}
	if e.proceed != nil {
		close(e.proceed)
	}
	e.headed.Store(true)
	c.raw.answered.Store(true)
	c.raw.expect(time.Time{})
	c.left = math.MaxInt64
	if response.Body == http.NoBody {
		e.end(true, !response.Close && response.StatusCode != http.StatusSwitchingProtocols)
		return response, nil
	}
	if !h.timed {
		e.call.conn = c.raw
	}
	response.Body = &answerBody{ReadCloser: response.Body, exchange: e, last: response.Close}
	return response, nil
}

// fail ends an exchange without an answer, and returns why there is none.
func (e *exchange) fail(err error) error {
	e.late = errors.Is(err, os.ErrDeadlineExceeded) || e.raw.stalled.Load()
	e.end(false, false)
	switch gone := context.Cause(e.request.Context()); {
	case gone != nil:
		return gone
	case e.late:
		return errLate
	}
	return err
}

// receive reads the header of the answer. Informational ones that come before it
// go to the client at once.
func (e *exchange) receive() (*http.Response, error) {
	for {
		response, err := http.ReadResponse(e.from, e.request)
		if err != nil {
			return nil, err
		}
		status := response.StatusCode
		if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
			return response, nil
		}
		if status == http.StatusContinue && e.proceed != nil {
			select {
			case e.proceed <- true:
			default: // it was not waited for any more
			}
		}
		trace := httptrace.ContextClientTrace(e.request.Context())
		if err := trace.Got1xxResponse(status, textproto.MIMEHeader(response.Header)); err != nil {
			return nil, err
		}
	}
}

// end lets go of the connection, for other requests if it goes on. whole tells
// that the answer was read to its end.
func (e *exchange) end(whole, goesOn bool) {
	e.raw.answer, e.call.conn = nil, nil
	switch {
	case !e.release() || !whole || !e.wasSent():
		_ = e.conn.Close()
	case goesOn:
		e.http1.idle.put(e.conn)
	default:
		e.conn.leave()
	}
}

// wasSent reports whether the request was sent whole.
func (e *exchange) wasSent() bool {
	if e.sent == nil {
		return true
	}
	select {
	case <-e.sent:
		return e.failure == nil
	default:
	}
	timeout := time.NewTimer(sentTime)
	defer timeout.Stop()
	select {
	case <-e.sent:
		return e.failure == nil
	case <-timeout.C:
		return false
	}
}

// answerBody is the body of an answer. It may be closed while it is read.
type answerBody struct {
	io.ReadCloser
	exchange *exchange
	last     bool // the connection ends with it

	mu    sync.Mutex
	ended error
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if err := b.over(); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, err
}

// Close implements io.Closer. The connection of a body that was not read to its
// end is closed.
func (b *answerBody) Close() error {
	b.end(http.ErrBodyReadAfterClose)
	return nil
}

func (b *answerBody) over() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// end ends the exchange, once.
func (b *answerBody) end(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = why
		b.exchange.end(why == io.EOF, !b.last)
	}
}
