package proxy_test

import (
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/secret"
)

// The rig fails the test if the log has a key.
func TestNoSpellingOfAClientKeyIsLogged(t *testing.T) {
	c := startKeyed(t)
	c.key["own"] = "text-of-the-operators-own-as-key"
	err := c.store.Add(t.Context(), clients.Client{Name: "own", Portals: []string{portalID}, KeySHA256: clients.Hash(secret.New(c.key["own"]))})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.set.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	escaped := "%68ap_" + strings.TrimPrefix(c.key["one"], "hap_")
	invalid := refused{400, "REQUEST_INVALID"}
	for _, request := range []string{"GET /a/" + escaped + "/hap_", "GET /a/%25" + escaped[1:] + "/hap_", escaped + " /a", "{one} /a"} {
		refusal(t, c.ask(request, "Authorization: Bearer {one}"), invalid)
	}
	for _, request := range []string{"GET /a/{own}", "{own} /a", "GET /a/text%2dof-the-operators-own-as-key"} {
		refusal(t, c.ask(request, "Authorization: Bearer {own}"), invalid)
	}
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {own}", "User-Agent: x {own}"), portalID)
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {one}", "User-Agent: x%20"+escaped+" hap_"), portalID)
	c.accessLog(9)
	c.noKey("the log", strings.ReplaceAll(c.logs.String(), "%2d", "-"))
	for _, f := range c.activity.Failures(portalID) {
		c.noKey("the activity", f.Method+f.Path)
	}
}
