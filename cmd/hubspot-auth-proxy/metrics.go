package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

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

// registerGauge registers a metric whose value is read when the metrics are collected.
func registerGauge(registry prometheus.Registerer, name, help string, value func() float64) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: tokens.MetricPrefix + name, Help: help}, value))
}
