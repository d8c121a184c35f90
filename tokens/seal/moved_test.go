package seal_test

import (
	"testing"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// FuzzASealedValueOpensAsItWasInItsPlaceOnly: moved to another portal or field
// it does not open, and with a bit changed it does not open as anything else.
func FuzzASealedValueOpensAsItWasInItsPlaceOnly(f *testing.F) {
	f.Add("value", "1", "refresh_token", "2", "refresh_token", uint(90))
	f.Add("v", "1", "ab", "1a", "b", uint(56))
	f.Add("v", "1\x00a", "b", "1", "a\x00b", uint(64))
	f.Add("sealed:a:", "1", "", "", "1", uint(0))
	f.Add("\x00", "62515", "access_token", "62515", "api_key", uint(1<<20))
	key, err := seal.Generate("a")
	if err != nil {
		f.Fatal(err)
	}
	ring, err := seal.Parse(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value, portal, field, otherPortal, otherField string, bit uint) {
		if value == "" {
			return // is stored as nothing
		}
		stored := ring.Seal(portal, field, secret.New(value))
		if got, err := ring.Open(portal, field, stored); err != nil || got.Reveal() != value {
			t.Fatalf("%q opens as %q, %v", value, got.Reveal(), err)
		}
		if portal != otherPortal || field != otherField {
			if got, err := ring.Open(otherPortal, otherField, stored); err == nil {
				t.Errorf("%q of %q opens as %q in %q of %q", field, portal, got.Reveal(), otherField, otherPortal)
			}
		}
		changed := []byte(stored)
		bit %= uint(len(changed) * 8)
		changed[bit/8] ^= 1 << (bit % 8)
		// Without its prefix it is text that was never sealed. The last
		// character of base64 has bits that stand for nothing.
		if got, err := ring.Open(portal, field, string(changed)); err == nil && got.Reveal() != value && got.Reveal() != string(changed) {
			t.Errorf("with bit %d changed it opens as %q", bit, got.Reveal())
		}
		if bit/8 >= uint(len("sealed:")) && bit/8 < uint(len(changed)-1) {
			if _, err := ring.Open(portal, field, string(changed)); err == nil {
				t.Errorf("with bit %d changed it opens", bit)
			}
		}
	})
}
