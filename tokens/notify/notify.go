// Package notify sends a notification to the address in NOTIFY_URL when a portal's grant
// has ended, and when the grant works again. So an operator learns at once that a person
// must connect the portal again.
//
// The address is a secret. Errors, the log and the metrics contain no part of the address,
// and nothing of the server's answer except the HTTP status.
package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/throttle"
)

const (
	// lanes is the number of notifications that are sent at the same time. All
	// notifications of a portal are in the same lane, so that they arrive in order.
	lanes = 4

	// laneLength is the number of notifications that can wait in a lane. While a lane
	// is full, further notifications for it are lost.
	laneLength = 256

	// Timeout is the longest time that one try may take.
	Timeout = 10 * time.Second
)

// pauses are the default of [Options].Pauses.
var pauses = []time.Duration{time.Second, 5 * time.Second}

// The outcomes of a notification.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed" // all tries failed, or the program ended before one succeeded
	outcomeLost      = "lost"   // never tried, because the lane was full or the Notifier was closed
)

// Options are the options of a [Notifier].
type Options struct {
	// URL is the address to which notifications are sent, by POST, as JSON. The
	// settings accept only https, and http to loopback; New does not check this.
	URL secret.Text

	// Pauses are the times between two tries; there is one try more than there are
	// pauses. nil means one second and five seconds. An empty slice means one try.
	Pauses []time.Duration

	// Log is the logger for notifications that failed or were lost. nil means that
	// nothing is logged.
	Log *zap.Logger

	// Metrics is the registry of the number of notifications. nil means that the
	// metric is not registered.
	Metrics prometheus.Registerer
}

// A Notifier sends notifications in the background. [New] returns one; the zero value is
// not usable. A Notifier is safe for concurrent use.
type Notifier struct {
	pauses []time.Duration
	log    *zap.Logger // logs every notification that failed
	losses *zap.Logger // logs notifications that were lost, throttled
	client *http.Client
	sent   *prometheus.CounterVec
	url    atomic.Pointer[secret.Text]

	mu     sync.RWMutex // guards closed; held while sending to a lane, so that Close does not close the lane meanwhile
	closed bool
	lanes  [lanes]chan tokens.GrantChange
	seed   maphash.Seed    // of the hash that selects a portal's lane
	work   sync.WaitGroup  // the goroutines that send the notifications of the lanes
	ctx    context.Context // the context of all tries, which end cancels
	end    context.CancelFunc
}

// New returns a notifier. The caller must close it.
func New(options Options) *Notifier {
	n := &Notifier{pauses: options.Pauses, log: cmp.Or(options.Log, zap.NewNop()), client: newClient(), seed: maphash.MakeSeed()}
	if n.pauses == nil {
		n.pauses = pauses
	}
	n.losses = throttle.Logger(n.log, throttle.Every)
	n.sent = promauto.With(options.Metrics).NewCounterVec(prometheus.CounterOpts{
		Name: tokens.MetricPrefix + "notifications_total", Help: "Notifications to NOTIFY_URL.",
	}, []string{"outcome"})
	for _, outcome := range []string{outcomeDelivered, outcomeFailed, outcomeLost} {
		n.sent.WithLabelValues(outcome) // rate() needs the series from the start
	}
	n.SetURL(options.URL)
	n.ctx, n.end = context.WithCancel(context.Background())
	for i := range n.lanes {
		n.lanes[i] = make(chan tokens.GrantChange, laneLength)
		n.work.Go(func() { n.run(n.lanes[i]) })
	}
	return n
}

// newClient returns a client that follows no redirects and reuses no connections. If a
// server sends anything on an idle connection, net/http logs the beginning of that text,
// and nothing that the server has sent may be logged.
func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{
		Transport:     transport,
		Timeout:       Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// SetURL changes the address for all tries from now on, including further tries of a
// notification that has already failed.
func (n *Notifier) SetURL(to secret.Text) { n.url.Store(&to) }

// Changed sends the change in the background. It never blocks. If too many notifications
// wait, or if the Notifier is closed, the notification is lost, and this is logged and
// counted.
func (n *Notifier) Changed(change tokens.GrantChange) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	lane := n.lanes[maphash.String(n.seed, change.Portal)%lanes]
	if !n.closed {
		select {
		case lane <- change:
			return
		default:
		}
	}
	n.sent.WithLabelValues(outcomeLost).Inc()
	n.losses.Warn("a notification to NOTIFY_URL is lost, because too many wait", fields(change)...)
}

// Close waits until all notifications are sent or have failed. When ctx ends, Close gives
// up the remaining notifications, which are then logged and counted as failed, and returns
// an error. Call Close once.
func (n *Notifier) Close(ctx context.Context) error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	for _, lane := range n.lanes {
		close(lane)
	}
	defer context.AfterFunc(ctx, n.end)()
	n.work.Wait()
	_ = n.losses.Sync()
	if n.ctx.Err() != nil {
		return errors.New("notifications were given up, because the program ends")
	}
	n.end()
	return nil
}

// run sends the notifications of a lane until the lane is closed and empty.
func (n *Notifier) run(lane <-chan tokens.GrantChange) {
	for change := range lane {
		tries, err := n.deliver(change)
		if err == nil {
			n.sent.WithLabelValues(outcomeDelivered).Inc()
			continue
		}
		n.sent.WithLabelValues(outcomeFailed).Inc()
		n.log.Warn("the address in NOTIFY_URL did not take a notification",
			append(fields(change), zap.Int("tries", tries), zap.String("cause", err.Error()))...)
	}
}

// deliver sends the change. After any error it tries again, until no pauses are left or
// the program ends. tries is the number of tries. The error is that of the last try.
func (n *Notifier) deliver(change tokens.GrantChange) (tries int, err error) {
	body, err := json.Marshal(change)
	if err != nil {
		return 0, errors.New("the notification cannot be encoded")
	}
	for {
		if err := n.ctx.Err(); err != nil {
			return tries, errors.New("the program ends")
		}
		err = n.try(body)
		if tries++; err == nil || tries > len(n.pauses) {
			return tries, err
		}
		select {
		case <-n.ctx.Done():
			return tries, fmt.Errorf("%w, and the program ends", err)
		case <-time.After(n.pauses[tries-1]):
		}
	}
}

// try sends the body once. The error contains no part of the address, and nothing of the
// answer except the status.
func (n *Notifier) try(body []byte) error {
	request, err := http.NewRequestWithContext(n.ctx, http.MethodPost, n.url.Load().Reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the address is not a URL")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "hubspot-auth-proxy")
	response, err := n.client.Do(request)
	if err != nil {
		return secret.Class(err)
	}
	_ = response.Body.Close()
	switch class := response.StatusCode / 100; {
	case class == 2:
		return nil
	case class == 3:
		return errors.New("it answers with a redirect, which is not followed")
	}
	return fmt.Errorf("it answers %d", response.StatusCode)
}

// fields returns the log fields that identify a change.
func fields(change tokens.GrantChange) []zap.Field {
	return []zap.Field{zap.String("portal", change.Portal), zap.String("state", string(change.State))}
}
