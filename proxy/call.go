package proxy

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens"
)

// call is what is known of one request on its way.
type call struct {
	request *http.Request // as the client sent it
	began   time.Time
	debug   bool

	admission
	body *body // nil if there is none

	counted          bool // in the load
	tokenCallCounted bool // among the token calls under way
	tokenInfo        bool // its body has the portal's token

	connected bool // the request asked for a tunnel, which was opened

	announced []string // trailers that the client will send

	used     []*tokens.Credential // one for each time it was sent
	attempts int
	spans    spans
	conn     *rawConn       // that HubSpot's answer comes on; nil: it is not flushed by that, or has been read
	response *http.Response // HubSpot's last one
	answer   answer

	refused     string // the category of the proxy's own answer
	correlation string // the id of that
	finished    bool   // and was not broken off
}

// spans are where the time went.
type spans struct {
	credential time.Duration // until there was one
	renewal    time.Duration // until there was another one
	upstream   time.Duration // until HubSpot's header, of all tries together
	header     time.Duration // from the request's arrival until the last try's end
}

type callKey struct{}

// callOf returns the call that the context belongs to.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// clientName returns the caller's name, empty if it is anonymous.
func (c *call) clientName() string {
	if c.client == nil {
		return ""
	}
	return c.client.Name
}

// own returns the proxy's own share of the time: from the request's arrival
// until HubSpot's header, or the end where there was none to wait for, without
// the waiting for HubSpot.
func (c *call) own(ended time.Time) time.Duration {
	if c.attempts == 0 {
		return ended.Sub(c.began)
	}
	return c.spans.header - c.spans.upstream
}

// received returns how many bytes of the request's body were read.
func (c *call) received() int64 {
	if c.body == nil {
		return 0
	}
	return c.body.read()
}

// hasBody reports whether the request has a body. One of unknown length may
// turn out to be empty.
func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

// unread reports whether bytes of the request's body may still be to come.
func (c *call) unread() bool {
	if c.body == nil {
		return hasBody(c.request)
	}
	return !c.body.done.Load()
}

// trailed reports whether HubSpot's answer has ended with trailers.
func (c *call) trailed() bool { return c.response != nil && len(c.response.Trailer) > 0 }

// memory is how many bytes may still be kept of requests' bodies, for all
// requests together.
type memory struct {
	left   atomic.Int64
	chunks sync.Pool // of maxChunk bytes, to be used again
}

// maxChunk is the size of most chunks of a large body.
const maxChunk = 32 << 10

// chunk returns an empty chunk with room for size bytes.
func (m *memory) chunk(size int) []byte {
	if size == maxChunk {
		if used, ok := m.chunks.Get().(*[maxChunk]byte); ok {
			return used[:0]
		}
	}
	return make([]byte, 0, size)
}

// recycle takes a chunk that nobody reads any more.
func (m *memory) recycle(chunk []byte) {
	if cap(chunk) == maxChunk {
		m.chunks.Put((*[maxChunk]byte)(chunk[:maxChunk]))
	}
}

// take reports whether n more bytes may be kept.
func (m *memory) take(n int) bool {
	if m.left.Add(int64(-n)) >= 0 {
		return true
	}
	m.left.Add(int64(n))
	return false
}

// overdraw takes n bytes that must be kept, be they left or not.
func (m *memory) overdraw(n int) { m.left.Add(int64(-n)) }

func (m *memory) give(n int) { m.left.Add(int64(n)) }
