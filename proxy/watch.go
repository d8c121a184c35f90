package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// watch limits how long HubSpot may take nothing of a request, or say nothing
// when it has all of it. http.Transport has no limit for the first, and HTTP/2
// needs one: a stream whose window is not opened any more has a connection that
// is well.
type watch struct {
	timeout time.Duration
	cancel  context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // nil: not begun
	over  bool        // the answer's header has come
}

// watched sends the request by the transport, within the timeout.
func watched(transport http.RoundTripper, r *http.Request, timeout time.Duration) (*http.Response, error) {
	if timeout == 0 {
		return transport.RoundTrip(r)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{timeout: timeout, cancel: cancel}
	out := r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { w.run() }}))
	if r.Body != nil {
		out.Body = &watchedBody{r.Body, w}
		out.GetBody = func() (io.ReadCloser, error) {
			body, err := r.GetBody()
			return &watchedBody{body, w}, err
		}
	}
	response, err := transport.RoundTrip(out)
	w.end()
	if ctx.Err() != nil && r.Context().Err() == nil {
		if err == nil {
			_ = response.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response.Body = &cancellingBody{response.Body, cancel}
	return response, nil
}

// run begins the time, or begins it anew.
func (w *watch) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.timeout, func() { w.cancel(errLate) })
	default:
		w.timer.Reset(w.timeout)
	}
}

// pause stops the time while the client is waited for.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) end() {
	w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// watchedBody is a request's body whose reading shows that HubSpot takes it.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.pause()
	defer b.watch.run()
	return b.ReadCloser.Read(p)
}

// cancellingBody is the body of an answer, with which the request's context ends.
type cancellingBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (b *cancellingBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
