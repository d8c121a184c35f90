package admin_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// noon is the time of the fake clock.
var noon = time.Unix(1_795_000_000, 0)

func statesAt(now time.Time) *admin.States {
	return admin.NewStates(&hubspot.App{ClientID: "app", ClientSecret: secret.New("a client secret")}, "http://localhost/callback", func() time.Time { return now })
}

func TestOpenReturnsTheStateThatWasSigned(t *testing.T) {
	for _, want := range []admin.State{
		{Purpose: admin.PurposeConnect, Nonce: "n", Portal: "62515", Browser: "b", Issued: noon, Expiry: noon.Add(time.Minute)},
		{Purpose: admin.PurposeLink, Nonce: `"<>&.=` + "\x00é", Issued: noon.Add(-time.Millisecond), Expiry: noon.Add(time.Second)},
	} {
		text := statesAt(noon).Sign(want)
		got, err := statesAt(noon).Open(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("error %v, -want +got\n%s", err, diff)
		}
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			t.Errorf("%s is not made for a URL", text)
		}
	}
}

func TestSigningFillsInNonceAndExpiry(t *testing.T) {
	states := statesAt(noon)
	for purpose, life := range map[string]time.Duration{admin.PurposeConnect: 10 * time.Minute, admin.PurposeLink: 7 * 24 * time.Hour} {
		first, err := states.Open(states.Sign(admin.State{Purpose: purpose}))
		second, _ := states.Open(states.Sign(admin.State{Purpose: purpose}))
		if err != nil || len(first.Nonce) < 20 || first.Nonce == second.Nonce || !first.Expiry.Equal(noon.Add(life)) || !first.Issued.Equal(noon) {
			t.Errorf("%s: %v %v %v", purpose, first, second, err)
		}
	}
}

func TestAnInvalidStateIsRefusedWithItsReason(t *testing.T) {
	link := admin.State{Purpose: admin.PurposeLink, Nonce: "n", Expiry: noon.Add(time.Minute)}
	text := statesAt(noon).Sign(link)
	body, signature, _ := strings.Cut(text, ".")
	other := admin.NewStates(&hubspot.App{ClientID: "app", ClientSecret: secret.New("another secret")}, "http://localhost/callback", func() time.Time { return noon })
	foreign := statesAt(noon).Sign(admin.State{Purpose: "other", Nonce: "n"})
	for _, tt := range []struct {
		name, text string
		now        time.Time
		want       error
	}{
		{"empty", "", noon, admin.ErrStateForged},
		{"a dot", ".", noon, admin.ErrStateForged},
		{"no signature", body, noon, admin.ErrStateForged},
		{"empty signature", body + ".", noon, admin.ErrStateForged},
		{"a part more", text + "." + signature, noon, admin.ErrStateForged},
		{"line break, which base64 passes over", body + "\n." + signature, noon, admin.ErrStateForged},
		{"padding", text + "=", noon, admin.ErrStateForged},
		{"another secret", other.Sign(link), noon, admin.ErrStateForged},
		{"another's expiry", other.Sign(link), noon.Add(time.Hour), admin.ErrStateForged},
		{"just expired", text, noon.Add(time.Minute), admin.ErrStateExpired},
		{"not yet expired", text, noon.Add(time.Minute - time.Nanosecond), nil},
		{"foreign purpose", foreign, noon, admin.ErrStatePurpose},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state, err := statesAt(tt.now).Open(tt.text)
			if !errors.Is(err, tt.want) || (err != nil && state != (admin.State{})) {
				t.Errorf("%v, error %v, want %v", state, err, tt.want)
			}
		})
	}
}

func TestNewStatesPanicsWithoutAClientSecret(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an empty client secret signs")
		}
	}()
	admin.NewStates(&hubspot.App{}, "", nil)
}

func TestASignedStateWithAnyBitChangedIsRefused(t *testing.T) {
	states := statesAt(noon)
	text := states.Sign(admin.State{Purpose: admin.PurposeConnect, Portal: "62515", Browser: "b"})
	for i := range len(text) * 8 {
		changed := []byte(text)
		changed[i/8] ^= 1 << (i % 8)
		if state, err := states.Open(string(changed)); !errors.Is(err, admin.ErrStateForged) {
			t.Fatalf("bit %d: %v, error %v", i, state, err)
		}
	}
}

func FuzzOpenAcceptsNothingButWhatWasSigned(f *testing.F) {
	states := statesAt(noon)
	signed := states.Sign(admin.State{Purpose: admin.PurposeLink, Nonce: "n", Portal: "62515"})
	f.Add(signed, uint(3))
	f.Add("e30.", uint(0))
	f.Add("", uint(7))
	f.Add(signed+"\n", uint(400))
	f.Fuzz(func(t *testing.T, text string, bit uint) {
		if state, err := states.Open(text); err == nil && text != signed {
			t.Errorf("%q opens as %v", text, state)
		}
		own := states.Sign(admin.State{Purpose: admin.PurposeConnect, Nonce: "x" + text})
		if _, err := states.Open(own); err != nil {
			t.Errorf("%q does not open: %v", own, err)
		}
		changed := []byte(own)
		bit %= uint(len(changed) * 8)
		changed[bit/8] ^= 1 << (bit % 8)
		if state, err := states.Open(string(changed)); err == nil {
			t.Errorf("%q opens as %v with bit %d changed", changed, state, bit)
		}
	})
}
