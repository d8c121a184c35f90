package upstream

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
	"time"
)

// sentTimeout is how long an answer that has been read waits for its request to
// be known to be sent, for the connection to be used again.
const sentTimeout = 10 * time.Millisecond

// exchange is one request and its answer on a connection.
type exchange struct {
	*conn
	direct  *direct
	request *http.Request
	release func() bool // lets go of the request's context; false: that has ended

	proceed chan bool     // whether the body is asked for; nil: it is sent at once
	sent    chan struct{} // closed when the request was sent, or could not be; nil: it was
	failure error         // of sending
}

// exchange sends the request, and returns the answer. Its body is still to be
// read, which ends with the connection idle, or closed.
func (d *direct) exchange(c *conn, r *http.Request) (*http.Response, error) {
	e := &exchange{conn: c, direct: d, request: r}
	c.heard, c.left = false, maxHeader
	c.raw.begin(d.timeout)
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
	c.raw.headed()
	c.left = math.MaxInt64
	if response.Body == http.NoBody {
		e.end(true, !response.Close && response.StatusCode != http.StatusSwitchingProtocols)
		return response, nil
	}
	response.Body = &directBody{ReadCloser: response.Body, exchange: e, last: response.Close}
	return response, nil
}

// fail ends an exchange without an answer, and returns why there is none.
func (e *exchange) fail(err error) error {
	e.timedOut = errors.Is(err, os.ErrDeadlineExceeded) || e.raw.stalled.Load()
	e.end(false, false)
	switch gone := context.Cause(e.request.Context()); {
	case gone != nil:
		return gone
	case e.timedOut:
		return ErrTimeout
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
		if trace := httptrace.ContextClientTrace(e.request.Context()); trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(status, textproto.MIMEHeader(response.Header)); err != nil {
				return nil, err
			}
		}
		if status == http.StatusContinue && e.proceed != nil {
			select {
			case e.proceed <- true:
			default: // it was not waited for any more
			}
		}
	}
}

// end lets go of the connection, for other requests if it goes on. whole tells
// that the answer was read to its end.
func (e *exchange) end(whole, goesOn bool) {
	switch {
	case !e.release() || !whole || !e.wasSent():
		_ = e.conn.Close()
	case goesOn:
		e.direct.pool.put(e.conn)
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
	timeout := time.NewTimer(sentTimeout)
	defer timeout.Stop()
	select {
	case <-e.sent:
		return e.failure == nil
	case <-timeout.C:
		return false
	}
}

// directBody is the body of an answer.
type directBody struct {
	io.ReadCloser
	exchange *exchange
	last     bool   // the connection ends with it
	onWait   func() // nil: nobody needs to know

	mu    sync.Mutex
	ended error
}

// OnWait implements Body.
func (b *directBody) OnWait(f func()) { b.onWait = f }

// Read implements io.Reader.
func (b *directBody) Read(p []byte) (int, error) {
	if err := b.over(); err != nil {
		return 0, err
	}
	raw := b.exchange.raw
	raw.onWait = b.onWait
	n, err := b.ReadCloser.Read(p)
	raw.onWait = nil
	if err != nil {
		b.end(err)
	}
	return n, err
}

// Close implements io.Closer. The connection of a body that was not read to its
// end is closed.
func (b *directBody) Close() error {
	b.end(http.ErrBodyReadAfterClose)
	return nil
}

func (b *directBody) over() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// end ends the exchange, once.
func (b *directBody) end(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = why
		b.exchange.end(why == io.EOF, !b.last)
	}
}
