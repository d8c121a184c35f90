package seal_test

import (
	"testing"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
)

// FuzzASealedValueOpensAsItWasInItsPlaceOnly checks that a sealed value does not open for
// another portal or field, and does not open as another value if one of its bits is changed.
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
			return // an empty value is not sealed
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
		// A changed prefix makes the text one that was never sealed. Some bits of the
		// last character of base64 have no meaning.
		if got, err := ring.Open(portal, field, string(changed)); err == nil && got.Reveal() != value && got.Reveal() != string(changed) {
			t.Errorf("with bit %d changed, the value opens as %q", bit, got.Reveal())
		}
		if bit/8 >= uint(len("sealed:")) && bit/8 < uint(len(changed)-1) {
			if _, err := ring.Open(portal, field, string(changed)); err == nil {
				t.Errorf("with bit %d changed, the value opens", bit)
			}
		}
	})
}
