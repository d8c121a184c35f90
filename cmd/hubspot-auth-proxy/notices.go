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
	timeout          time.Duration // for sending, at the end, what is still queued
	until            time.Time     // the end of that timeout; zero if it is not known yet
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

// changed returns the function that takes the changes of grants; nil if nobody is notified.
func (n notices) changed() func(tokens.GrantChange) {
	if n.Notifier == nil {
		return nil
	}
	return n.Changed
}

// close sends the notifications that are still queued. It returns within SHUTDOWN_TIMEOUT. In
// a command that time begins here; in the proxy it begins when the proxy stops serving.
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
