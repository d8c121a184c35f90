package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens"
)

func zipped(text string) string {
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	_, _ = io.WriteString(writer, text)
	_ = writer.Close()
	return buffer.String()
}

func TestThePolicyOfA429IsCountedAndItsBodyPassesAsItCame(t *testing.T) {
	says := func(policy string) string {
		return fmt.Sprintf("{\"status\":\"error\", \"errorType\":\"RATE_LIMIT\",\"policyName\":%q,\"x\":\"ü\xff\"}\r\n", policy)
	}
	long := strings.Repeat(" ", 100<<10)
	for name, test := range map[string]struct{ method, encoding, body, policy string }{
		"burst":              {"GET", "", says("TEN_SECONDLY_ROLLING"), "TEN_SECONDLY_ROLLING"},
		"search":             {"POST", "", says("SECONDLY"), "SECONDLY"},
		"daily":              {"GET", "", says("DAILY"), "DAILY"},
		"gzip":               {"GET", "gzip", zipped(says("DAILY")), "DAILY"},
		"no gzip":            {"GET", "gzip", says("DAILY"), "other"},
		"another":            {"GET", "", says("hubspot_made_this_up"), "other"},
		"none":               {"GET", "", `{"status":"error"}`, "other"},
		"not JSON":           {"GET", "", "<html>", "other"},
		"empty":              {"GET", "", "", "other"},
		"HEAD":               {"HEAD", "", "", "other"},
		"not within 64 KiB":  {"GET", "", long + says("DAILY"), "other"},
		"gzip, much in it":   {"GET", "gzip", zipped(long + says("DAILY")), "other"},
		"the policy's start": {"GET", "", `{"policyName":"DAILY`, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			set, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.encoding != "" {
					w.Header().Set("Content-Encoding", test.encoding)
				}
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = io.WriteString(w, test.body)
			})
			r := start(t, setup{proxy: set})
			r.seed(portalID, tokens.AccessToken, staticToken)
			answer := r.call(test.method, "/", nil)
			answer.want(t, 429, "1")
			if string(answer.body) != test.body {
				t.Errorf("%d bytes came, not the %d that HubSpot sent", len(answer.body), len(test.body))
			}
			want := map[string]float64{"hubspot_rate_limited_total policy=" + test.policy: 1}
			got := r.counted()
			for series := range got {
				if !strings.HasPrefix(series, "hubspot_rate_limited") {
					delete(got, series)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Nobody waits until the policy is known.
func TestA429IsStreamed(t *testing.T) {
	const first, rest = `{"policy`, `Name":"SECONDLY"}`
	for _, length := range []string{"", fmt.Sprint(len(first + rest))} {
		more := make(chan struct{})
		set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			w.WriteHeader(http.StatusTooManyRequests)
			for _, part := range []string{first, rest} {
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-more:
				case <-q.Context().Done():
				}
			}
		})
		r := start(t, setup{proxy: set})
		r.seed(portalID, tokens.AccessToken, staticToken)
		response, err := r.client.Do(r.request("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		part := make([]byte, len(first))
		if _, err := io.ReadFull(response.Body, part); err != nil || string(part) != first || response.StatusCode != 429 {
			t.Errorf("status %d, %q, %v", response.StatusCode, part, err)
		}
		close(more)
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != rest {
			t.Errorf("then %q, %v", text, err)
		}
		if got := r.counted()["hubspot_rate_limited_total policy=SECONDLY"]; got != 1 {
			t.Errorf("counted %v times", got)
		}
	}
}
