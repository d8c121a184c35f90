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
	*notify.Notifier               // nil: it is not set
	timeout          time.Duration // for what waits at the end
	until            time.Time     // the end of that; zero: not known yet
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

// changed returns what gets the changes of grants, nil if nobody is notified.
func (n notices) changed() func(tokens.GrantChange) {
	if n.Notifier == nil {
		return nil
	}
	return n.Changed
}

// close sends what waits. It ends when SHUTDOWN_TIMEOUT is over at the latest: a
// command counts that from here, the proxy from when it has stopped to serve.
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
	_ = n.Close(ctx) // logged for each
}
