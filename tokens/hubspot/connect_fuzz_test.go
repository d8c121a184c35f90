package hubspot_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// FuzzConnecting checks that for every answer of the token service, Exchange returns a
// grant with usable tokens, and Introspect a portal id, or both return an *Error that
// quotes nothing of the answer.
func FuzzConnecting(f *testing.F) {
	f.Add(200, "application/json", `{"access_token":"a","refresh_token":"r","expires_in":1800,"hub_id":62515,"active":true}`)
	f.Add(200, "", `{"access_token":"a\n","refresh_token":"r","expires_in":1800}`)
	f.Add(200, "application/json", `{"access_token":"a","refresh_token":"","expires_in":"1800"}`)
	f.Add(200, "application/json", `{"active":true,"hub_id":"62515"}`)
	f.Add(200, "application/json", `{"active":true,"hub_id":-1}`)
	f.Add(200, "application/json", `{"active":false,"hub_id":1}`)
	f.Add(200, "application/json", `{"active":true,"hub_id":1e3}`)
	f.Add(200, "application/json", strings.Repeat("[", 20000))
	f.Add(400, "application/json", `{"status":"BAD_AUTH_CODE","message":"x"}`)
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		app := &hubspot.App{TokenURL: "http://hubspot.invalid/oauth/v3/token", Client: &http.Client{Transport: fixed{status, contentType, body}}}
		grant, err := app.Exchange(t.Context(), "code", "http://localhost/callback")
		if err == nil && (grant.Access.IsZero() || grant.Refresh.IsZero() || grant.ExpiresIn <= 0 || strings.ContainsAny(grant.Access.Reveal()+grant.Refresh.Reveal(), " \r\n\x00")) {
			t.Errorf("an unusable grant with a life of %v", grant.ExpiresIn)
		}
		isError(t, err)
		portal, err := app.Introspect(t.Context(), secret.New("a"))
		if _, number := strconv.ParseUint(portal, 10, 63); err == nil && (number != nil || status != 200) {
			t.Errorf("Introspect returned portal %q for status %d", portal, status)
		}
		isError(t, err)
	})
}

func isError(t *testing.T, err error) {
	t.Helper()
	if refusal, is := errors.AsType[*hubspot.Error](err); err != nil && (!is || refusal.Unwrap() == nil && len(err.Error()) > 150) {
		t.Errorf("%T: %v", err, err)
	}
}
