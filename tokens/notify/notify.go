// Package notify sends what has become of a portal's grant to an address of the
// operator's, so that somebody learns at once that a portal is to be connected
// again.
//
// The address is a secret. Nothing of it, and nothing of what it answers, is in an
// error, in the log or in a metric.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
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
	// lanes is how many notifications are under way at once. Those of a portal take
	// the same lane, so that they arrive in order.
	lanes = 4

	// laneLength is how many notifications wait in a lane. Further ones are lost.
	laneLength = 256

	// Timeout is how long one try may take.
	Timeout = 10 * time.Second
)

// pauses are the times between the tries.
var pauses = []time.Duration{time.Second, 5 * time.Second}

// The outcomes of a notification.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed" // all tries, or the program has ended before
	outcomeLost      = "lost"   // too many were waiting
)

// Options are what a [Notifier] works with.
type Options struct {
	// URL gets the notifications: https, or http to loopback.
	URL secret.Text

	// Pauses are the times between the tries. Nil means one second and five.
	Pauses []time.Duration

	// Log gets a line for each notification that failed. Nil means that none is
	// written.
	Log *zap.Logger

	// Metrics is where the number of notifications is registered. Nil: nowhere.
	Metrics prometheus.Registerer
}

// A Notifier sends notifications in the background. It is safe for concurrent use.
type Notifier struct {
	pauses []time.Duration
	log    *zap.Logger // of notifications that failed, each
	losses *zap.Logger // of those that were lost, throttled
	client *http.Client
	sent   *prometheus.CounterVec
	url    atomic.Pointer[secret.Text]

	mu     sync.RWMutex // guards closed, and sending to lanes against closing them
	closed bool
	lanes  [lanes]chan tokens.GrantChange
	seed   maphash.Seed
	work   sync.WaitGroup
	life   context.Context // of the tries
	end    context.CancelFunc
}

// New returns a notifier that works until it is closed.
func New(options Options) *Notifier {
	n := &Notifier{pauses: options.Pauses, log: options.Log, client: newClient(), seed: maphash.MakeSeed()}
	if n.pauses == nil {
		n.pauses = pauses
	}
	if n.log == nil {
		n.log = zap.NewNop()
	}
	n.losses = throttle.Logger(n.log, throttle.Every)
	n.sent = promauto.With(options.Metrics).NewCounterVec(prometheus.CounterOpts{
		Name: tokens.MetricPrefix + "notifications_total", Help: "Notifications to NOTIFY_URL.",
	}, []string{"outcome"})
	for _, outcome := range []string{outcomeDelivered, outcomeFailed, outcomeLost} {
		n.sent.WithLabelValues(outcome) // there from the start, for rate()
	}
	n.SetURL(options.URL)
	n.life, n.end = context.WithCancel(context.Background())
	for i := range n.lanes {
		n.lanes[i] = make(chan tokens.GrantChange, laneLength)
		n.work.Go(func() { n.run(n.lanes[i]) })
	}
	return n
}

// newClient returns a client that follows no redirect and keeps no connection: on
// one that is idle, net/http would log what comes.
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

// SetURL changes the address of the notifications that are sent from now on.
func (n *Notifier) SetURL(to secret.Text) { n.url.Store(&to) }

// Changed sends the change in the background. It never blocks: if too many wait, the
// change is lost, which is logged and counted.
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

// Close sends what waits, until ctx ends. What is left then is logged and counted as
// failed. The error says whether anything was left.
func (n *Notifier) Close(ctx context.Context) error {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		for _, lane := range n.lanes {
			close(lane)
		}
	}
	n.mu.Unlock()
	stop := context.AfterFunc(ctx, n.end)
	defer stop()
	n.work.Wait()
	_ = n.losses.Sync()
	if n.life.Err() != nil {
		return errors.New("notifications were given up, because the program ends")
	}
	n.end()
	return nil
}

// run sends the notifications of a lane until it is closed.
func (n *Notifier) run(lane <-chan tokens.GrantChange) {
	for change := range lane {
		tries, err := n.deliver(change)
		if err != nil {
			n.failed(change, tries, err)
			continue
		}
		n.sent.WithLabelValues(outcomeDelivered).Inc()
	}
}

// deliver sends the change, and tries again after each pause. The error says why the
// last try failed.
func (n *Notifier) deliver(change tokens.GrantChange) (tries int, err error) {
	body, err := json.Marshal(change)
	if err != nil {
		return 0, errors.New("the notification cannot be encoded")
	}
	for {
		if err := n.life.Err(); err != nil {
			return tries, errors.New("the program ends")
		}
		err = n.try(body)
		if tries++; err == nil || tries > len(n.pauses) {
			return tries, err
		}
		select {
		case <-n.life.Done():
			return tries, fmt.Errorf("%w, and the program ends", err)
		case <-time.After(n.pauses[tries-1]):
		}
	}
}

// try sends the body once. The error has nothing of the address, and nothing that
// came from there.
func (n *Notifier) try(body []byte) error {
	request, err := http.NewRequestWithContext(n.life, http.MethodPost, n.url.Load().Reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the address is not a URL")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "hubspot-auth-proxy")
	response, err := n.client.Do(request)
	if err != nil {
		return cause(err)
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

// cause returns the class of an error of net/http, whose text has the address.
func cause(err error) error {
	timeout, isNet := errors.AsType[net.Error](err)
	_, isDNS := errors.AsType[*net.DNSError](err)
	_, isOperation := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("the program ends")
	case isNet && timeout.Timeout():
		return errors.New("timeout")
	case isDNS:
		return errors.New("its host name is not found")
	case isTLS(err):
		return errors.New("TLS fails")
	case isOperation:
		return errors.New("it cannot be reached")
	}
	return errors.New("it does not answer as a web server does")
}

// failed logs and counts a notification that was not delivered.
func (n *Notifier) failed(change tokens.GrantChange, tries int, err error) {
	n.sent.WithLabelValues(outcomeFailed).Inc()
	n.log.Warn("the address in NOTIFY_URL did not take a notification",
		append(fields(change), zap.Int("tries", tries), zap.String("cause", err.Error()))...)
}

func fields(change tokens.GrantChange) []zap.Field {
	return []zap.Field{zap.String("portal", change.Portal), zap.String("state", string(change.State))}
}
