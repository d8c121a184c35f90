package proxy

import (
	"net/http"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/activity"
)

// AccessMessage is the message of the lines of the access log.
const AccessMessage = "request"

// recorder counts and logs how requests ended. It is safe for concurrent use.
type recorder struct {
	metrics    *metrics
	activity   *activity.Log
	access     *zap.Logger // nil means no access log
	errorsOnly bool        // the access log has only errors and broken answers
	faults     *zap.Logger // throttled
}

func newRecorder(options Options, metrics *metrics, faults *zap.Logger) *recorder {
	r := &recorder{metrics: metrics, activity: options.Activity, errorsOnly: options.AccessLogErrors, faults: faults}
	if options.AccessLog {
		r.access = options.Log
	}
	return r
}

// record counts and logs an outcome. The header is that of the answer.
func (r *recorder) record(o *outcome, header http.Header) {
	if o.broken {
		r.metrics.broken.Inc()
		r.faults.Warn("HubSpot broke off its answer", zap.String("portal", o.portal), zap.Int("status", o.status))
	}
	r.metrics.count(o)
	if !o.tunnel {
		r.activity.Add(o.activity(header))
	}
	if r.access != nil && (!r.errorsOnly || o.status >= http.StatusBadRequest || !o.complete) {
		r.access.Info(AccessMessage, zap.Inline(line{o}))
	}
}
