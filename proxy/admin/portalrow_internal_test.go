package admin

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens"
)

var now = time.Unix(1_795_000_000, 0)

func TestARowHasThePortalsStateAndWhatToDo(t *testing.T) {
	oauth := func(state tokens.State, renewed, expires time.Duration) tokens.Portal {
		return tokens.Portal{ID: "62515", Kind: tokens.OAuth, State: state, Renewed: now.Add(renewed), Expires: now.Add(expires)}
	}
	with := func(s tokens.Portal, change func(*tokens.Portal)) tokens.Portal { change(&s); return s }
	fails := func(s *tokens.Portal) {
		s.Failure, s.Retry = "HubSpot's token endpoint: HTTP 502", now.Add(12*time.Second)
	}
	for _, tt := range []struct {
		name       string
		status     tokens.Portal
		canConnect bool
		want       portalRow
	}{
		{"well", oauth("active", -6*time.Minute, 24*time.Minute), true,
			portalRow{Level: "good", State: "Healthy", Left: 80, Life: "24 min left", Renewed: "renewed 6 min ago"}},
		{"never renewed", tokens.Portal{ID: "62515", Kind: tokens.OAuth, State: "active", Expires: now.Add(15 * time.Minute)}, true,
			portalRow{Level: "good", State: "Healthy", Left: 50, Life: "15 min left"}},
		{"about to end", oauth("active", -30*time.Minute, time.Second), true,
			portalRow{Level: "good", State: "Healthy", Left: 1, Life: "1 s left", Renewed: "renewed 30 min ago"}},
		{"expired", oauth("active", -5*time.Hour, -270*time.Minute), true,
			portalRow{Level: "idle", State: "At rest", Note: "The next call renews its token.", Life: "expired 4 h ago", Renewed: "renewed 5 h ago"}},
		{"fails", with(oauth("active", -26*time.Minute, 4*time.Minute), fails), true,
			portalRow{Level: "warn", State: "Not renewed", Left: 13, Life: "4 min left", Renewed: "renewed 26 min ago",
				Note: "HubSpot's token endpoint: HTTP 502. The first call after 12 s tries again. Calls are served until the current token expires."}},
		{"fails and expired", with(oauth("active", -40*time.Minute, -10*time.Minute), fails), true,
			portalRow{Level: "bad", State: "No token", Life: "expired 10 min ago", Renewed: "renewed 40 min ago",
				Note: "HubSpot's token endpoint: HTTP 502. The first call after 12 s tries again. Calls get 503 meanwhile."}},
		{"not stored", with(oauth("active", 0, 30*time.Minute), func(s *tokens.Portal) { s.Unsaved = true }), true,
			portalRow{Level: "warn", State: "Not stored", Left: 100, Life: "30 min left", Renewed: "renewed 0 s ago",
				Note: "The token was renewed, and Redis has not stored it yet. Only this process has the token: keep the process running until Redis answers."}},
		{"ended", with(oauth("ended", -40*time.Minute, -10*time.Minute), func(s *tokens.Portal) { s.Problem = "BAD_HUB" }), true,
			portalRow{Level: "bad", State: "Ended", Left: -1, Connect: true, Renewed: "renewed 40 min ago",
				Note: "HubSpot refuses the grant (BAD_HUB). Calls get 403 until the portal is connected again."}},
		{"ended, and nothing to connect with", with(oauth("ended", -40*time.Minute, 0), func(s *tokens.Portal) { s.Problem = "BAD_HUB" }), false,
			portalRow{Level: "bad", State: "Ended", Left: -1, Renewed: "renewed 40 min ago",
				Note: "HubSpot refuses the grant (BAD_HUB). Calls get 403 until the portal is connected again. " +
					"Connect it again with portal link --portal 62515, or give a new grant to portal set 62515 refresh_token, or to the setting or seed file that has the portal."}},
		{"unusable", tokens.Portal{ID: "62515", Kind: tokens.APIKey, State: "unusable", Problem: "the record has no api_key"}, true,
			portalRow{Level: "bad", State: "Unusable", Left: -1,
				Note: "The record has no api_key. Calls get 503. If a key is missing from ENCRYPTION_KEYS, add it after the first key; otherwise store the credential anew with portal set 62515."}},
		{"static", tokens.Portal{ID: "62515", Kind: tokens.AccessToken, State: "active"}, true,
			portalRow{Level: "good", State: "Healthy", Left: -1, Life: "does not expire"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.ID, tt.want.Kind = "62515", kindName(tt.status.Kind)
			if diff := cmp.Diff(tt.want, newPortalRow(tt.status, now, tt.canConnect)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestNoTimeMakesABarTooLongOrTooShort(t *testing.T) {
	times := []time.Time{{}, now, now.Add(-time.Nanosecond), now.Add(time.Nanosecond), now.Add(time.Hour), now.Add(-time.Hour),
		time.UnixMilli(math.MaxInt64), time.UnixMilli(math.MinInt64), time.UnixMilli(0)}
	for _, renewed := range times {
		for _, expires := range times {
			row := newPortalRow(tokens.Portal{Kind: tokens.OAuth, State: "active", Renewed: renewed, Expires: expires}, now, true)
			if row.Left < -1 || row.Left > 100 || len(row.Life) > 40 || len(row.Renewed) > 40 {
				t.Errorf("renewed %v, expires %v: %+v", renewed, expires, row)
			}
		}
	}
}
