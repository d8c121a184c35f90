package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// departureTime limits how long clientLeft reads.
const departureTime = 250 * time.Millisecond

// clientLeft reports whether an HTTP/1 client has left that was still sending its body when
// the body was last read. net/http's server notices a client's leaving only after it has read
// the whole body, because the end of the connection is behind the bytes that the client sent
// before. So clientLeft reads these bytes. Call it when the request has failed, so that no
// attempt needs them.
func (a *reply) clientLeft() bool {
	c := a.call
	if c.request.ProtoMajor != 1 || c.received() == 0 || !c.unread() {
		return false
	}
	limit := time.Now().Add(departureTime)
	client := http.NewResponseController(a.ResponseWriter)
	if client.SetReadDeadline(limit) != nil {
		return false
	}
	_, err := io.Copy(io.Discard, c.request.Body)
	_ = client.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
	case err != nil:
		a.failed = true
	default:
		// The server has read the whole body, and now notices.
		timeout := time.NewTimer(time.Until(limit))
		defer timeout.Stop()
		select {
		case <-c.request.Context().Done():
			a.failed = true
		case <-timeout.C:
		}
	}
	return a.failed
}
