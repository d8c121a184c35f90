package k8s_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	corev1 "k8s.io/api/core/v1"
)

// alerts returns the alerts by their names.
func alerts(t *testing.T) map[string]monitoringv1.Rule {
	t.Helper()
	found := map[string]monitoringv1.Rule{}
	for _, group := range strictly[monitoringv1.PrometheusRule](t, "monitoring/alerts.yaml").Spec.Groups {
		for _, rule := range group.Rules {
			if _, twice := found[rule.Alert]; twice || rule.Alert == "" {
				t.Errorf("an alert %q is there twice, or has no name", rule.Alert)
			}
			found[rule.Alert] = rule
		}
	}
	return found
}

func TestAnAlertSaysHowBadItIsAndWhatToDo(t *testing.T) {
	for name, rule := range alerts(t) {
		switch rule.Labels["severity"] {
		case "critical", "warning", "info":
		default:
			t.Errorf("%s: severity is %q", name, rule.Labels["severity"])
		}
		if rule.For == nil || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s lacks a time, a summary or a description", name)
		}
		// A test in cmd/hubspot-auth-proxy checks that the page has the section.
		if !strings.HasPrefix(rule.Annotations["runbook_url"], "RUNBOOKS/") {
			t.Errorf("%s names no page to read", name)
		}
	}
}

func TestAnAlertsRunbookIsALink(t *testing.T) {
	link := regexp.MustCompile(`^https://[^/]+/\S+/(?:[a-z0-9]+/)*README\.md#[a-z0-9-]+$`)
	rules := all[*monitoringv1.PrometheusRule](render(t, "examples/monitoring"))
	if len(rules) != 1 {
		t.Fatalf("%d PrometheusRules are applied", len(rules))
	}
	for _, group := range rules[0].Spec.Groups {
		for _, rule := range group.Rules {
			if url := rule.Annotations["runbook_url"]; !link.MatchString(url) || strings.Contains(url, "RUNBOOKS") {
				t.Errorf("%s leads to %q", rule.Alert, url)
			}
		}
	}
	for _, config := range all[*corev1.ConfigMap](render(t, "examples/monitoring")) {
		if strings.Contains(config.Name, "runbooks") {
			t.Errorf("%s is applied", config.Name)
		}
	}
}

// story is a history of series, with a value a minute, in the notation of Prometheus' rule
// tests.
type story []string

// Names of series in the stories.
const (
	requests    = "hubspot_auth_proxy_requests_total"
	renewals    = "hubspot_auth_proxy_renewals_total"
	tokenCalls  = "hubspot_auth_proxy_token_calls_total"
	rateLimited = "hubspot_auth_proxy_hubspot_rate_limited_total"
	remaining   = "hubspot_auth_proxy_hubspot_rate_limit_remaining"

	turnsRefused = "hubspot_auth_proxy_turns_refused_total"
	turnWaits    = "hubspot_auth_proxy_turn_wait_seconds_bucket"
)

// alertStory has a story in which an alert fires, and one in which it does not.
type alertStory struct {
	alert string
	fires story
	not   story
}

func alertStories() []alertStory {
	return []alertStory{
		{"HubSpotAuthProxyAbsent", story{`up 1x30`}, story{`hubspot_auth_proxy_build_info{pod="a"} 1x30`}},
		{"HubSpotAuthProxyNotReady",
			story{`kube_deployment_status_replicas_available{deployment="hubspot-auth-proxy"} 2x20 0x10`},
			story{`kube_deployment_status_replicas_available{deployment="hubspot-auth-proxy"} 1x30`, `kube_deployment_status_replicas_available{deployment="other"} 0x30`}},
		{"HubSpotAuthProxyErrors", // 6 and 4 of 100
			story{requests + `{answered_by="proxy", status="5xx", pod="a"} 0+6x30`, requests + `{answered_by="hubspot", status="2xx", pod="b"} 0+94x30`},
			story{requests + `{answered_by="proxy", status="5xx", pod="a"} 0+4x30`, requests + `{answered_by="proxy", status="4xx", pod="a"} 0+6x30`, requests + `{answered_by="hubspot", status="5xx", pod="b"} 0+90x30`}},
		{"HubSpotAuthProxySeedFaulty",
			story{`hubspot_auth_proxy_faulty_seeds{pod="a"} 0x30`, `hubspot_auth_proxy_faulty_seeds{pod="b"} 0x20 1x10`},
			story{`hubspot_auth_proxy_faulty_seeds{pod="a"} 0x29 1x1`}},
		{"HubSpotAuthProxyClientsUnauthenticated",
			story{requests + `{answered_by="proxy", status="4xx", category="CLIENT_UNAUTHENTICATED", pod="a"} 0+30x30`, requests + `{answered_by="hubspot", status="2xx", pod="b"} 0+70x30`},
			story{requests + `{answered_by="proxy", status="4xx", category="CLIENT_UNAUTHENTICATED", pod="a"} 0+10x30`, requests + `{answered_by="hubspot", status="4xx", pod="b"} 0+90x30`}},
		{"HubSpotAuthProxyClientsForbidden",
			story{requests + `{answered_by="proxy", status="4xx", category="CLIENT_FORBIDDEN", pod="a"} 0+15x30`, requests + `{answered_by="proxy", status="4xx", category="PORTAL_NOT_CONNECTED", pod="a"} 0+15x30`, requests + `{answered_by="hubspot", status="2xx", pod="b"} 0+70x30`},
			story{requests + `{answered_by="proxy", status="4xx", category="CLIENT_FORBIDDEN", pod="a"} 0+1x30`, requests + `{answered_by="proxy", status="4xx", category="CLIENT_UNAUTHENTICATED", pod="a"} 0+90x30`}},
		{"HubSpotAuthProxyOverloaded",
			story{requests + `{answered_by="proxy", status="5xx", category="OVERLOADED", pod="a"} 0+5x30`},
			story{requests + `{answered_by="proxy", status="5xx", category="OVERLOADED", pod="a"} 0+1x30`, requests + `{answered_by="proxy", status="5xx", category="UPSTREAM_TIMEOUT", pod="a"} 0+9x30`}},
		{"HubSpotAuthProxyClientKeysExpire",
			story{`hubspot_auth_proxy_expiring_client_keys{pod="a"} 1x30`},
			story{`hubspot_auth_proxy_expiring_client_keys{pod="a"} 1x20 0x10`}},
		{"HubSpotAuthProxyCredentialsRejected",
			story{`hubspot_auth_proxy_second_tries_total{outcome="rejected", pod="a"} 0+4x30`, `hubspot_auth_proxy_second_tries_total{outcome="no_credential", pod="b"} 0+4x30`, requests + `{answered_by="hubspot", status="4xx", pod="a"} 0+50x30`},
			story{`hubspot_auth_proxy_second_tries_total{outcome="rejected", pod="a"} 0+4x30`, `hubspot_auth_proxy_second_tries_total{outcome="accepted", pod="a"} 0+50x30`, requests + `{answered_by="hubspot", status="2xx", pod="a"} 0+100x30`}},
		{"HubSpotAuthProxyHubSpotErrors",
			story{requests + `{answered_by="hubspot", status="5xx", pod="a"} 0+6x30`, requests + `{answered_by="hubspot", status="2xx", pod="b"} 0+94x30`},
			story{requests + `{answered_by="hubspot", status="5xx", pod="a"} 0+4x30`, requests + `{answered_by="proxy", status="5xx", pod="a"} 0+50x30`, requests + `{answered_by="hubspot", status="4xx", pod="b"} 0+96x30`}},
		{"HubSpotAuthProxyGrantEnded",
			story{`hubspot_auth_proxy_ended_grants{pod="a"} 0x30`, `hubspot_auth_proxy_ended_grants{pod="b"} 0x20 1x10`},
			story{`hubspot_auth_proxy_ended_grants{pod="a"} 1x10 0x20`}},
		{"HubSpotAuthProxyCredentialRejected", // for longer than a moment, in which an endpoint wants another kind of credential
			story{`hubspot_auth_proxy_portals{state="rejected", pod="a"} 0x20 1x10`, `hubspot_auth_proxy_portals{state="active", pod="a"} 3x30`},
			story{`hubspot_auth_proxy_portals{state="rejected", pod="a"} 0x27 1x3`, `hubspot_auth_proxy_portals{state="ended", pod="a"} 1x30`}},
		{"HubSpotAuthProxyRecordUnusable",
			story{`hubspot_auth_proxy_portals{state="unusable", pod="a"} 0x20 1x10`, `hubspot_auth_proxy_portals{state="active", pod="a"} 3x30`},
			story{`hubspot_auth_proxy_portals{state="unusable", pod="a"} 0x27 1x3`, `hubspot_auth_proxy_portals{state="rejected", pod="a"} 1x30`}},
		{"HubSpotAuthProxyAppRefused",
			story{renewals + `{outcome="refused", pod="a"} 0x25 1x5`},
			story{renewals + `{outcome="refused", pod="a"} 5x30`, renewals + `{outcome="failed", pod="a"} 0+1x30`}},
		{"HubSpotAuthProxyRenewalsFailing", // a replica's restart is not among what fails
			story{renewals + `{outcome="failed", pod="a"} 0+0.25x30`, renewals + `{outcome="failed", pod="b"} 0+0.25x30`},
			story{renewals + `{outcome="failed", pod="a"} 0x20 2x10`, renewals + `{outcome="renewed", pod="a"} 0+9x30`}},
		{"HubSpotAuthProxyTokenEndpointThrottled",
			story{tokenCalls + `{outcome="throttled", pod="a"} 0x22 1x8`},
			story{tokenCalls + `{outcome="throttled", pod="a"} 7x30`, tokenCalls + `{outcome="ok", pod="a"} 0+9x30`}},
		{"HubSpotAuthProxyTokensUnsaved",
			story{`hubspot_auth_proxy_unsaved_portals{pod="a"} 0x20 1x10`, `hubspot_auth_proxy_unsaved_portals{pod="b"} 0x30`},
			story{`hubspot_auth_proxy_unsaved_portals{pod="a"} 0x28 1x2`}},
		{"HubSpotAuthProxyRedisAway",
			story{`hubspot_auth_proxy_redis_up{pod="a"} 1x30`, `hubspot_auth_proxy_redis_up{pod="b"} 1x20 0x10`},
			story{`hubspot_auth_proxy_redis_up{pod="a"} 1x28 0x2`}},
		{"HubSpotAuthProxyDailyLimitReached",
			story{rateLimited + `{policy="DAILY", pod="a"} 0x25 1x5`},
			story{rateLimited + `{policy="DAILY", pod="a"} 9x30`, rateLimited + `{policy="SECONDLY", pod="a"} 0+9x30`}},
		{"HubSpotAuthProxyRateLimited",
			story{rateLimited + `{policy="SECONDLY", pod="a"} 0+2x30`, rateLimited + `{policy="SECONDLY", pod="b"} 0+2x30`},
			story{rateLimited + `{policy="SECONDLY", pod="a"} 0+1x30`, rateLimited + `{policy="other", pod="a"} 0+1x30`, rateLimited + `{policy="DAILY", pod="a"} 0+9x30`}},
		{"HubSpotAuthProxyRateLimitNearlyUsedUp",
			story{remaining + `{pod="a"} 100x30`, remaining + `{pod="b"} 5x30`},
			story{remaining + `{pod="a"} 100x30`, remaining + `{pod="b"} 100x25 5x5`}},
		{"HubSpotAuthProxyDailyLimitNear",
			story{`hubspot_auth_proxy_portals_near_daily_limit{pod="a"} 0x30`, `hubspot_auth_proxy_portals_near_daily_limit{pod="b"} 0x20 2x10`},
			story{`hubspot_auth_proxy_portals_near_daily_limit{pod="a"} 2x20 0x10`}},
		{"HubSpotAuthProxyTurnsRefused",
			story{turnsRefused + `{reason="wait", pod="a"} 0+2x30`, turnsRefused + `{reason="wait", pod="b"} 0+2x30`},
			story{turnsRefused + `{reason="wait", pod="a"} 0+1x30`, turnsRefused + `{reason="queue", pod="a"} 0+1x30`, turnsRefused + `{reason="client_daily", pod="a"} 0+9x30`}},
		{"HubSpotAuthProxyTurnsSlow", // 1 in 10 waits for more than 10 seconds, and 1 in 50
			story{turnWaits + `{le="10", pod="a"} 0+9x30`, turnWaits + `{le="30", pod="a"} 0+10x30`, turnWaits + `{le="+Inf", pod="a"} 0+10x30`},
			story{turnWaits + `{le="10", pod="a"} 0+49x30`, turnWaits + `{le="30", pod="a"} 0+50x30`, turnWaits + `{le="+Inf", pod="a"} 0+50x30`}},
	}
}

func TestAlertsFireWhenTheyMustAndOnlyThen(t *testing.T) {
	rules := alerts(t)
	described := map[string]bool{}
	for _, tt := range alertStories() {
		rule, known := rules[tt.alert]
		if !known {
			t.Errorf("there is no alert %s", tt.alert)
			continue
		}
		described[tt.alert] = true
		if !tt.fires.fires(t, rule) {
			t.Errorf("%s does not fire for %q", tt.alert, tt.fires)
		}
		if tt.not.fires(t, rule) {
			t.Errorf("%s fires for %q", tt.alert, tt.not)
		}
	}
	for name := range rules {
		if !described[name] {
			t.Errorf("no story says when %s fires", name)
		}
	}
}

// fires reports whether the alert fires at the end of the story: whether its expression has
// held, with the same labels, for the time that the rule requires.
func (s story) fires(t *testing.T, rule monitoringv1.Rule) bool {
	t.Helper()
	wait, err := time.ParseDuration(string(*rule.For))
	if err != nil {
		t.Fatal(err)
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1 << 20, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	defer engine.Close()
	end := time.Unix(0, 0).Add(30 * time.Minute)
	query, err := engine.NewRangeQuery(t.Context(), s.queryable(t), nil, rule.Expr.String(), end.Add(-wait), end, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	matrix, err := query.Exec(t.Context()).Matrix()
	if err != nil {
		t.Fatal(err)
	}
	for _, held := range matrix {
		if len(held.Floats) == int(wait/time.Minute)+1 {
			return true
		}
	}
	return false
}

// queryable is a storage that has the story. Prometheus' storage for tests would need its
// whole database, and the SDK of every cloud.
func (s story) queryable(t *testing.T) storage.Queryable {
	t.Helper()
	var stored []storage.Series
	for _, line := range s {
		name, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var samples []chunks.Sample
		for i, value := range values {
			samples = append(samples, sample{time.Duration(i) * time.Minute, value.Value})
		}
		stored = append(stored, storage.NewListSeries(name, samples))
	}
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{
		SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
			found := &seriesSet{at: -1}
			for _, one := range stored {
				if matchesAll(one.Labels(), matchers) {
					found.series = append(found.series, one)
				}
			}
			return found
		},
	}}
}

func matchesAll(name labels.Labels, matchers []*labels.Matcher) bool {
	for _, matcher := range matchers {
		if !matcher.Matches(name.Get(matcher.Name)) {
			return false
		}
	}
	return true
}

// seriesSet iterates over series.
type seriesSet struct {
	series []storage.Series
	at     int
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series              { return s.series[s.at] }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// sample is a value with its time.
type sample struct {
	at    time.Duration
	value float64
}

func (s sample) T() int64                    { return s.at.Milliseconds() }
func (s sample) F() float64                  { return s.value }
func (sample) ST() int64                     { return 0 }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }
