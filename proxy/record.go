package proxy

import (
	"net/http"

	"go.uber.org/zap"
)

// recorder counts and logs how requests ended. It is safe for concurrent use.
type recorder struct {
	metrics    *metrics
	history    *History    // nil means no history
	access     *zap.Logger // nil means no access log
	errorsOnly bool        // the access log has only errors and broken answers
	faults     *zap.Logger // throttled
}

func newRecorder(options Options, metrics *metrics, faults *zap.Logger) *recorder {
	r := &recorder{metrics: metrics, history: options.History, errorsOnly: options.AccessLogErrors, faults: faults}
	if options.AccessLog {
		r.access = options.Log
	}
	return r
}

func (r *recorder) record(o *outcome) {
	if o.broken {
		r.metrics.broken.Inc()
		r.faults.Warn("HubSpot broke off its answer", zap.String("portal", o.portal), zap.Int("status", o.status))
	}
	r.metrics.count(o)
	if r.history != nil && !o.tunnel {
		r.history.count(o.failed())
	}
	if r.access != nil && (!r.errorsOnly || o.status >= http.StatusBadRequest || !o.complete) {
		r.access.Info("request", zap.Inline(line{o}))
	}
}
