package store

import (
	"fmt"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// asRedis returns the record's fields as Redis returns them.
func asRedis(r Record) map[string]string {
	fields := map[string]string{"generation": fmt.Sprint(r.Generation), "grant": fmt.Sprint(r.Grant), "seeds": r.Seeds}
	list := r.fields("62515", seal.Ring{})
	for i := 0; i < len(list); i += 2 {
		fields[list[i].(string)] = list[i+1].(string)
	}
	return fields
}

func sameRecord(a, b Record) bool {
	return a.SameTokens(b) && a.State == b.State && a.Generation == b.Generation && a.Grant == b.Grant && a.Seeds == b.Seeds &&
		a.ExpiresAt.Equal(b.ExpiresAt) && a.RenewedAt.Equal(b.RenewedAt) && a.SetAt.Equal(b.SetAt) && a.RenewedFor == b.RenewedFor && a.EndedCode == b.EndedCode
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Record{
		"seeded":    {Kind: OAuth, State: Active, Generation: 1, Refresh: secret.New("r"), Seeds: " a b"},
		"renewed":   {Kind: OAuth, State: Active, Generation: 1 << 52, Secret: secret.New("a"), Refresh: secret.New("r"), ExpiresAt: time.UnixMilli(1), RenewedAt: time.UnixMilli(2), RenewedFor: Rejection},
		"ended":     {Kind: OAuth, State: Ended, Grant: 5, Generation: 7, SetAt: time.UnixMilli(3), Refresh: secret.New("r"), EndedCode: "BAD_HUB"},
		"removed":   {State: Removed, Generation: 7, Seeds: " a"},
		"token":     {Kind: AccessToken, State: Active, Generation: 7, Secret: secret.New("a")},
		"developer": {Kind: APIKey, State: Active, Generation: 7, Secret: secret.New("k")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseRecord("62515", asRedis(r), seal.Ring{})
			if err != nil || !sameRecord(r, got) {
				t.Errorf("got %+v, %v, want %+v", got, err, r)
			}
		})
	}
}

// FuzzParseRecord checks that all fields in Redis are either an error, or a record that can be
// used and is the same after it was written and read again.
func FuzzParseRecord(f *testing.F) {
	f.Add("1", "oauth", "active", "1700000000000000", "a", "", "r", "1700000000000", "1700000000000", "expiry", "", "s")
	f.Add("1", "api_key", "ended", "1", "", "k", "", "", "", "", "BAD_HUB", "")
	f.Add("1", "", "removed", "-1", "", "", "", "", "", "", "", "s s")
	f.Add("2", "x", "y", "z", "", "", "", "1e3", "9223372036854775807", "-9223372036854775808", "", "")
	f.Fuzz(func(t *testing.T, version, kind, state0, generation, access, key, refresh, expires, renewed, why, code, seeds string) {
		r, err := parseRecord("62515", map[string]string{
			"schema": version, "kind": kind, "state": state0, "generation": generation,
			"access_token": access, "api_key": key, "refresh_token": refresh, "expires_at": expires,
			"renewed_at": renewed, "renewed_for": why, "ended_code": code, "seeds": seeds,
		}, seal.Ring{})
		if err != nil {
			return
		}
		if again, err := parseRecord("62515", asRedis(r), seal.Ring{}); err != nil || !sameRecord(r, again) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
		if r.State == Active && r.Kind == OAuth && r.Refresh.IsZero() || r.State == Active && r.Kind != OAuth && r.Secret.IsZero() {
			t.Errorf("the record cannot be used: %+v", r)
		}
	})
}
