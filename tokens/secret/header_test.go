package secret_test

import (
	"testing"

	"hubspot-auth-proxy/tokens/secret"
)

func TestACredentialHasVisibleASCIIOnly(t *testing.T) {
	for text, want := range map[string]int{
		"": -1, "pat-na1-0_~!/+=": -1, " a": 0, "a ": 1, "a\nb": 1, "a\r\n": 1, "ab\x00": 2, "a\x7f": 1, "aé": 1, "a\xff": 1,
	} {
		if got := secret.HeaderUnsafe(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
