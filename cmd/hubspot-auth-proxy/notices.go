package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/notify"
)

// notices sends notifications to NOTIFY_URL, if that is set.
type notices struct {
	*notify.Notifier               // nil if NOTIFY_URL is not set
	timeout          time.Duration // how long close may take to send queued notifications
	until            time.Time     // the end of that time; zero until the proxy stops serving
}

func newNotices(settings config.Config, log *zap.Logger, metrics prometheus.Registerer) notices {
	if settings.NotifyURL.IsZero() {
		return notices{}
	}
	return notices{
		Notifier: notify.New(notify.Options{URL: settings.NotifyURL, Log: log, Metrics: metrics}),
		timeout:  settings.ShutdownTimeout,
	}
}

// changed returns the function to call for each change of a grant, or nil if NOTIFY_URL is
// not set.
func (n notices) changed() func(tokens.GrantChange) {
	if n.Notifier == nil {
		return nil
	}
	return n.Changed
}

// close sends the notifications that are still queued. close returns within
// SHUTDOWN_TIMEOUT. In a command, SHUTDOWN_TIMEOUT begins when close is called. In the
// proxy, it begins when the proxy stops serving.
func (n notices) close() {
	if n.Notifier == nil {
		return
	}
	until := n.until
	if until.IsZero() {
		until = time.Now().Add(n.timeout)
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	_ = n.Close(ctx) // the notifier logs each failure
}
