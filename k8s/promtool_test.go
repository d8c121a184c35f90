package k8s_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"

	"hubspot-auth-proxy/tokens/testkit"
)

// The parts of promtool's test files that are used here.
// https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
type (
	promtoolFile struct {
		RuleFiles          []string       `json:"rule_files"`
		EvaluationInterval string         `json:"evaluation_interval"`
		Tests              []promtoolTest `json:"tests"`
	}
	promtoolTest struct {
		Name        string           `json:"name"`
		Interval    string           `json:"interval"`
		InputSeries []promtoolSeries `json:"input_series"`
		ExprTests   []promtoolExpr   `json:"promql_expr_test"`
	}
	promtoolSeries struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	promtoolExpr struct {
		Expr       string           `json:"expr"`
		EvalTime   string           `json:"eval_time"`
		ExpSamples []promtoolSample `json:"exp_samples"`
	}
	promtoolSample struct {
		Labels string `json:"labels"`
		Value  int    `json:"value"`
	}
)

// TestPromtoolAgrees makes Prometheus' own tool check the stories against the rules, with
// their times and labels.
func TestPromtoolAgrees(t *testing.T) {
	promtool := testkit.Need(t, "promtool")
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.json")
	writeJSON(t, rules, strictly[monitoringv1.PrometheusRule](t, "monitoring/alerts.yaml").Spec)
	run(t, promtool, "check", "rules", rules)
	file := promtoolFile{RuleFiles: []string{rules}, EvaluationInterval: "1m"}
	for _, s := range alertStories() {
		file.Tests = append(file.Tests, s.fires.promtool(s.alert, true), s.not.promtool(s.alert, false))
	}
	path := filepath.Join(dir, "tests.json")
	writeJSON(t, path, file)
	run(t, promtool, "test", "rules", path)
}

// promtool returns the story as a test for promtool: whether the alert fires at its end.
func (s story) promtool(alert string, fires bool) promtoolTest {
	test := promtoolTest{Name: alert, Interval: "1m"}
	for _, line := range s {
		series, values := line, ""
		if end := strings.LastIndex(line, "} "); end >= 0 {
			series, values = line[:end+1], line[end+2:]
		} else {
			series, values, _ = strings.Cut(line, " ")
		}
		test.InputSeries = append(test.InputSeries, promtoolSeries{series, values})
	}
	expr := promtoolExpr{Expr: `count(ALERTS{alertname="` + alert + `", alertstate="firing"}) > bool 0`, EvalTime: "30m", ExpSamples: []promtoolSample{}}
	if fires {
		expr.ExpSamples = append(expr.ExpSamples, promtoolSample{"{}", 1})
	}
	test.ExprTests = []promtoolExpr{expr}
	return test
}

// writeJSON writes a file of JSON, which is also valid YAML.
func writeJSON(t *testing.T, path string, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
}
