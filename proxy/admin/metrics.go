package admin

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
)

// metricsHandler serves /metrics in Prometheus' text format. If some of them
// cannot be gathered, the others are served.
func (a *Admin) metricsHandler() http.Handler {
	gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := a.options.Metrics.Gather()
		if err != nil {
			// The error may quote labels' values: it is for the log only.
			a.log.Error("some metrics cannot be gathered", zap.Error(err))
			err = errors.New("they cannot be gathered, the log says why")
		}
		return families, err
	})
	return promhttp.HandlerFor(gather, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
