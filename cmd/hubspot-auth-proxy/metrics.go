package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
)

// newRegistry returns a registry with the metrics of the Go runtime, of the process and of
// the build.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        tokens.MetricPrefix + "build_info",
		Help:        "1, with the version of the program.",
		ConstLabels: prometheus.Labels{"version": versionText(), "go_version": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// countFaultySeed registers the metric faulty_seeds.
func countFaultySeed(registry prometheus.Registerer, seed *seeding.Seeder) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: tokens.MetricPrefix + "faulty_seeds",
		Help: "1 if the seed file cannot be used, so that its previous content stays in use; else 0.",
	}, func() float64 {
		if seed.Fault() != "" {
			return 1
		}
		return 0
	}))
}

// countExpiring registers the metric expiring_client_keys.
func countExpiring(registry prometheus.Registerer, known *clients.Set) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: tokens.MetricPrefix + "expiring_client_keys",
		Help: "Clients whose current key expires within 14 days, or has expired.",
	}, func() float64 { return float64(known.Expiring()) }))
}
