package admin

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
)

// metricsHandler serves /metrics in Prometheus' text format. If some metrics cannot be gathered, the
// others are served.
func (a *Admin) metricsHandler() http.Handler {
	gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := a.options.Metrics.Gather()
		if err != nil {
			// The error may quote values of labels, so it is only logged.
			a.log.Error("some metrics cannot be gathered", zap.Error(err))
			err = errors.New("some metrics cannot be gathered; see the log")
		}
		return families, err
	})
	return promhttp.HandlerFor(gather, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
