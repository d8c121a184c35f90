package k8s_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// strictly decodes a YAML file; a field that the type does not have is an error.
func strictly[T any](t *testing.T, path string) T {
	t.Helper()
	var object T
	content, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(content, &object)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object
}

func TestTheServiceMonitorFindsTheAdminPort(t *testing.T) {
	monitor := strictly[monitoringv1.ServiceMonitor](t, "monitoring/servicemonitor.yaml")
	objects := render(t, "examples/monitoring")
	services := slices.DeleteFunc(all[*corev1.Service](objects), func(s *corev1.Service) bool {
		return !selectsLabels(monitor.Spec.Selector.MatchLabels, s.Labels)
	})
	if len(services) != 1 || len(monitor.Spec.Endpoints) != 1 {
		t.Fatalf("it selects %d services, and has %d endpoints", len(services), len(monitor.Spec.Endpoints))
	}
	endpoint := monitor.Spec.Endpoints[0]
	if !slices.ContainsFunc(services[0].Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == endpoint.Port && p.Port == 8081 }) {
		t.Errorf("the service has no port %s that is 8081", endpoint.Port)
	}
	if endpoint.Path != "/metrics" {
		t.Errorf("it asks %s", endpoint.Path)
	}
}

// selectsLabels reports whether labels has all of selector.
func selectsLabels(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

func TestGrafanaFindsTheDashboard(t *testing.T) {
	for _, config := range all[*corev1.ConfigMap](render(t, "examples/monitoring")) {
		if config.Labels["grafana_dashboard"] == "1" && json.Valid([]byte(config.Data["dashboard.json"])) {
			return
		}
	}
	t.Error("no ConfigMap has the label and the dashboard")
}

// dashboard has the parts of Grafana's JSON that the tests check.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Datasource               struct{ UID string }
	Targets                  []struct {
		Expr       string
		Datasource struct{ UID string }
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var board dashboard
	content, err := os.ReadFile("monitoring/dashboard.json")
	if err == nil {
		err = json.Unmarshal(content, &board)
	}
	if err != nil {
		t.Fatalf("dashboard.json: %v", err)
	}
	return board
}

func TestThePanelsStandBesideEachOtherAndSayWhatTheyShow(t *testing.T) {
	type square struct{ x, y int }
	ids, taken := map[int]string{}, map[square]string{}
	for _, p := range readDashboard(t).Panels {
		if other, used := ids[p.ID]; used {
			t.Errorf("%s and %s have the same id", p.Title, other)
		}
		ids[p.ID] = p.Title
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := square{p.GridPos.X + x, p.GridPos.Y + y}
				if other, used := taken[at]; used || at.x >= 24 {
					t.Fatalf("%s lies over %s, or beyond the edge, at %v", p.Title, other, at)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %s, lacks a title, a description, a unit or a target", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s is bound to a data source that is not chosen", p.Title)
			}
		}
	}
}

// expressions returns all PromQL expressions, by the places where they are.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, metric := range podsMetrics(t) {
		found["autoscaler "+metric.Metric.Name] = metric.Metric.Name
	}
	for _, rule := range alerts(t) {
		found["alert "+rule.Alert] = rule.Expr.String()
	}
	// Grafana replaces the variables by such values.
	grafana := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$job", ".*")
	board := readDashboard(t)
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			found[fmt.Sprintf("panel %s %d", p.Title, i)] = grafana.Replace(target.Expr)
		}
	}
	values := regexp.MustCompile(`^label_values\((\w+), \w+\)$`)
	for _, variable := range board.Templating.List {
		if of := values.FindStringSubmatch(variable.Definition); of != nil {
			found["variable "+variable.Name] = of[1]
		}
	}
	return found
}

// series has the labels of a metric, and the values of each label.
type series map[string]map[string]bool

// add adds the labels of one of the metric's series.
func (s series) add(pairs []*dto.LabelPair) {
	for _, pair := range pairs {
		if s[pair.GetName()] == nil {
			s[pair.GetName()] = map[string]bool{}
		}
		s[pair.GetName()][pair.GetValue()] = true
	}
}

// fromOutside has the metrics and labels that no replica exposes, because Prometheus and
// kube-state-metrics add them. nil means any value.
var (
	targetLabels = []string{"namespace", "job", "pod"}
	fromOutside  = map[string]series{
		"kube_deployment_status_replicas_available": {"deployment": nil},
	}
)

func TestWhatIsAskedOfPrometheusIsExposed(t *testing.T) {
	t.Parallel()
	exposed := expose(t)
	maps.Copy(exposed, fromOutside)
	promQL := parser.NewParser(parser.Options{})
	for where, text := range expressions(t) {
		expression, err := promQL.ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				checkSelector(t, where, n, exposed)
			case *parser.AggregateExpr:
				checkGrouping(t, where, n, exposed)
			}
			return nil
		})
	}
}

func checkSelector(t *testing.T, where string, selector *parser.VectorSelector, exposed map[string]series) {
	t.Helper()
	metric, known := exposed[selector.Name]
	if !known {
		t.Errorf("%s: there is no metric %s", where, selector.Name)
		return
	}
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name == model.MetricNameLabel || slices.Contains(targetLabels, matcher.Name) {
			continue
		}
		values, known := metric[matcher.Name]
		if !known {
			t.Errorf("%s: %s has no label %s", where, selector.Name, matcher.Name)
		} else if values != nil && !matchesOne(matcher, values) {
			t.Errorf("%s: no series of %s has %s", where, selector.Name, matcher)
		}
	}
}

// matchesOne reports whether one of the values is one that the matcher selects or excludes.
func matchesOne(matcher *labels.Matcher, values map[string]bool) bool {
	named := *matcher
	if matcher.Type == labels.MatchNotEqual {
		named.Type = labels.MatchEqual
	}
	return slices.ContainsFunc(slices.Collect(maps.Keys(values)), named.Matches)
}

func checkGrouping(t *testing.T, where string, aggregate *parser.AggregateExpr, exposed map[string]series) {
	t.Helper()
	for _, matchers := range parser.ExtractSelectors(aggregate.Expr) {
		name := matchers[slices.IndexFunc(matchers, func(m *labels.Matcher) bool { return m.Name == model.MetricNameLabel })].Value
		for _, label := range aggregate.Grouping {
			if _, known := exposed[name][label]; !known && !slices.Contains(targetLabels, label) {
				t.Errorf("%s: groups by %s, which %s does not have", where, label, name)
			}
		}
	}
}

// expose runs the program, calls it in many ways, and returns what it exposes.
func expose(t *testing.T) map[string]series {
	t.Helper()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	hub.Handle(exhausted)
	program := testkit.Launch(t, testkit.Build(t, "-C", ".."), "UPSTREAM_URL="+hub.URL,
		"HUBSPOT_CLIENT_ID="+hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET="+hubspottest.ClientSecret,
		"HUBSPOT_PORTAL_ID=62515", "HUBSPOT_REFRESH_TOKEN="+hub.Connect("62515"))
	call := func(path string) {
		if response, err := http.Get("http://" + program.Address + path); err == nil {
			_ = response.Body.Close()
		}
	}
	call("/crm/v3/objects/contacts")
	hub.Expire("62515")
	for _, path := range []string{"/crm/v3/objects/contacts", "/portals/7/x", "/fake/status?code=429", "/daily", "/fake/status?code=503", "/fake/reset"} {
		call(path)
	}
	response, err := http.Get("http://" + program.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text := expfmt.NewTextParser(model.LegacyValidation)
	families, err := text.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return seriesOf(families)
}

// exhausted answers calls of /daily as HubSpot does after the calls of the day are used up.
func exhausted(w http.ResponseWriter, r *http.Request, _ string) bool {
	if r.URL.Path != "/daily" {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-HubSpot-RateLimit-Remaining", "100")
	w.WriteHeader(http.StatusTooManyRequests)
	_, _ = io.WriteString(w, `{"status":"error","errorType":"RATE_LIMIT","policyName":"DAILY"}`)
	return true
}

// seriesOf returns the metrics by the names that Prometheus stores them under.
func seriesOf(families map[string]*dto.MetricFamily) map[string]series {
	stored := map[string]series{}
	for name, family := range families {
		names := []string{name}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{name + "_sum", name + "_count", name + "_bucket"}
		}
		for _, name := range names {
			stored[name] = series{}
			for _, metric := range family.Metric {
				stored[name].add(metric.Label)
			}
		}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			stored[name+"_bucket"]["le"] = nil
		}
	}
	return stored
}
