package upstream

import (
	"bufio"
	"cmp"
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

// sentTimeout is how long, after the answer was read, exchange.end waits for the
// request to be sent completely. A connection whose request was not sent completely
// cannot be used again.
const sentTimeout = 10 * time.Millisecond

// exchange is one request and its answer on a connection.
type exchange struct {
	*conn
	direct  *direct
	request *http.Request
	to      *bufio.Writer // nil before sending, and after it
	release func() bool   // stops watching the request's context; false means that the context ended

	proceed chan bool     // receives true when the server asks for the body, closed when it answers without; nil means send at once
	sent    chan struct{} // closed when sending has succeeded or failed; nil means that there was no body to send
	failure error         // why sending failed; read it only after sent is closed
}

// exchange sends the request, and returns the answer with its body unread. When the
// body was read to its end or closed, the connection goes back to the pool or is closed.
func (d *direct) exchange(c *conn, r *http.Request) (*http.Response, error) {
	e := &exchange{conn: c, direct: d, request: r}
	c.answerBegan, c.readErr, c.readLimit = false, nil, maxHeader // of all headers of the answer
	c.raw.beginRequest(d.timeout)
	e.release = context.AfterFunc(r.Context(), c.abort)
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
	c.raw.headerReceived()
	c.readLimit = math.MaxInt64
	if response.Body == http.NoBody {
		e.end(true, !response.Close && response.StatusCode != http.StatusSwitchingProtocols)
		return response, nil
	}
	response.Body = &directBody{ReadCloser: response.Body, exchange: e, last: response.Close}
	return response, nil
}

// fail ends an exchange that got no answer, and returns the error for the client.
func (e *exchange) fail(err error) error {
	e.timedOut = errors.Is(err, os.ErrDeadlineExceeded) || e.raw.stalled.Load()
	e.end(false, false)
	switch cause := context.Cause(e.request.Context()); {
	case cause != nil:
		return cause
	case e.timedOut:
		return ErrTimeout
	}
	return err
}

// receive reads the header of the final answer. It passes informational answers (1xx)
// before that to httptrace at once.
func (e *exchange) receive() (*http.Response, error) {
	for {
		response, err := http.ReadResponse(e.from, e.request)
		if err != nil {
			// If reading failed in the middle of a line, ReadResponse reports the line as
			// malformed: bufio.Reader.ReadLine drops the error.
			return nil, cmp.Or(e.readErr, err)
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
			default: // sendBody no longer waits: continueTimeout has passed
			}
		}
	}
}

// end puts the connection back into the pool, or closes it. complete means that the
// answer was read to its end, keepAlive that the server keeps the connection open.
func (e *exchange) end(complete, keepAlive bool) {
	switch {
	case !e.release() || !complete || !e.wasSent():
		_ = e.conn.Close()
	case keepAlive:
		e.direct.pool.put(e.conn)
	default:
		e.conn.shutdown()
	}
}

// wasSent reports whether the whole request was sent. It waits up to sentTimeout.
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
	last     bool   // the server closes the connection after this answer
	onWait   func() // nil means no callback

	mu    sync.Mutex
	ended error // what Read returns once the exchange has ended
}

// OnWait implements Body.
func (b *directBody) OnWait(f func()) { b.onWait = f }

// Read implements io.Reader.
func (b *directBody) Read(p []byte) (int, error) {
	if err := b.endedWith(); err != nil {
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

// Close implements io.Closer. If the body was not read to its end, Close closes the
// connection.
func (b *directBody) Close() error {
	b.end(http.ErrBodyReadAfterClose)
	return nil
}

func (b *directBody) endedWith() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// end ends the exchange. Only the first call has an effect.
func (b *directBody) end(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = why
		b.exchange.end(why == io.EOF, !b.last)
	}
}
