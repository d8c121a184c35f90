package tokens

import (
	"fmt"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// asRedis returns the record's fields as Redis gives them.
func asRedis(r record) map[string]string {
	fields := map[string]string{"generation": fmt.Sprint(r.generation), "seeds": r.seeds}
	list := r.fields("62515", seal.Ring{})
	for i := 0; i < len(list); i += 2 {
		fields[list[i].(string)] = list[i+1].(string)
	}
	return fields
}

func sameRecord(a, b record) bool {
	return a.sameTokens(b) && a.state == b.state && a.generation == b.generation && a.seeds == b.seeds &&
		a.expiresAt.Equal(b.expiresAt) && a.renewedAt.Equal(b.renewedAt) && a.setAt.Equal(b.setAt) && a.renewedFor == b.renewedFor && a.endedCode == b.endedCode
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]record{
		"seeded":    {kind: OAuth, state: active, generation: 1, refresh: secret.New("r"), seeds: " a b"},
		"renewed":   {kind: OAuth, state: active, generation: 1 << 52, secret: secret.New("a"), refresh: secret.New("r"), expiresAt: time.UnixMilli(1), renewedAt: time.UnixMilli(2), renewedFor: rejection},
		"ended":     {kind: OAuth, state: ended, generation: 7, setAt: time.UnixMilli(3), refresh: secret.New("r"), endedCode: "BAD_HUB"},
		"removed":   {state: removed, generation: 7, seeds: " a"},
		"token":     {kind: AccessToken, state: active, generation: 7, secret: secret.New("a")},
		"developer": {kind: APIKey, state: active, generation: 7, secret: secret.New("k")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseRecord("62515", asRedis(r), seal.Ring{})
			if err != nil || !sameRecord(r, got) {
				t.Errorf("got %+v, %v, want %+v", got, err, r)
			}
		})
	}
}

// FuzzParseRecord: whatever is in Redis, it is an error or a record that is
// written as it was read, and can be used.
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
		if r.state == active && r.kind == OAuth && r.refresh.IsZero() || r.state == active && r.kind != OAuth && r.secret.IsZero() {
			t.Errorf("it cannot be used: %+v", r)
		}
	})
}
