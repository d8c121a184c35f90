package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// near is a little less than the limit of a header, over a little more than
// what net/http adds to that.
const near, over = 127 << 10, 140 << 10

func TestAHeaderUpToTheLimitPassesAndALongerOneIsRefused(t *testing.T) {
	c := startKeyed(t)
	lines := func(total int) string {
		var text strings.Builder
		for i := 0; text.Len() < total-30; i++ {
			fmt.Fprintf(&text, "X-%d: %d\r\n", i, i)
		}
		return strings.TrimSuffix(text.String(), "\r\n")
	}
	for name, send := range map[string]func(total int) received{
		"a long header": func(total int) received {
			return c.ask("GET /a", "Authorization: Bearer {one}", "X-A: "+strings.Repeat("a", total-200))
		},
		"a long path": func(total int) received {
			return c.ask("GET /"+strings.Repeat("a", total-200), "Authorization: Bearer {one}")
		},
		"a long query": func(total int) received {
			return c.ask("GET /a?"+strings.Repeat("a&", total/2-100), "Authorization: Bearer {one}")
		},
		"a long key": func(total int) received {
			return c.ask("GET /a", "Authorization: Bearer {one}"+strings.Repeat("a", total-200))
		},
		"many headers": func(total int) received { return c.ask("GET /a", "Authorization: Bearer {one}", lines(total-200)) },
		"many folds": func(total int) received {
			return c.ask("GET /a", "Authorization: Bearer {one}", "X-A: b"+strings.Repeat("\r\n b", total/4-60))
		},
		"many keys that agree": func(total int) received {
			return c.ask("GET /a", strings.TrimSuffix(strings.Repeat("Authorization: Bearer {one}\r\n", total/72), "\r\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := send(over); got.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !got.Close {
				t.Errorf("over the limit: status %d, closed: %v", got.StatusCode, got.Close)
			}
			got := send(near)
			if name == "a long key" {
				refusal(t, got, unauthenticated)
			} else {
				wantPortal(t, got, portalID)
			}
		})
	}
	got := c.ask("GET /a?"+strings.Repeat("b", 100<<10), "Authorization: Bearer {one}", lines(20<<10))
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || echo.Target != "/a?"+strings.Repeat("b", 100<<10) || len(echo.Header) < 1500 {
		t.Errorf("a target of %d bytes and %d headers arrived, %v", len(echo.Target), len(echo.Header), err)
	}
}

// The cost is compared with that of a header of the same size with one field.
func TestNoHeaderCostsMuch(t *testing.T) {
	c := startKeyed(t, anonymous)
	many := func(format string) string {
		var text strings.Builder
		for i := 0; text.Len() < near-300; i++ {
			fmt.Fprintf(&text, format, i)
		}
		return text.String()
	}
	for name, request := range map[string]struct{ target, lines string }{
		"many keys in the query":   {"/a?" + many("hapikey=%x&"), "X-A: b"},
		"many keys in the header":  {"/a", many("Authorization: Bearer %x\r\n") + "X-A: b"},
		"many portals":             {"/a", many("X-HubSpot-Portal-Id: 6%d\r\n") + "X-A: b"},
		"many names to be removed": {"/a", "Connection: " + many("x-%x,")},
		"many Connections":         {"/a", many("Connection: %x\r\n") + "Forwarded: for=a"},
		"many Forwarded":           {"/a", many("Forwarded: for=%x\r\n") + "X-A: b"},
		"many escapes":             {"/a?" + many("%%68%%61%%70%%69%%6b%%65%%79=%x;"), "X-A: b"},
		"many prefixes":            {many("/portals/%d"), "X-A: b"},
		"many segments":            {"/oauth" + many("%%2f/%x"), "X-A: b"},
	} {
		t.Run(name, func(t *testing.T) {
			// The least of a few, in turn, because the machine may be busy.
			best, plain := time.Hour, time.Hour
			for range 5 {
				began := time.Now()
				c.ask("GET "+request.target, request.lines)
				asked := time.Now()
				c.ask("GET /a", "X-A: "+strings.Repeat("a", near-300))
				best, plain = min(best, asked.Sub(began)), min(plain, time.Since(asked))
			}
			if best > 10*plain {
				t.Errorf("it takes %v, and one long field takes %v", best, plain)
			}
		})
	}
}
