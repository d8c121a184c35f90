package proxy_test

import (
	"io"
	"net/http"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestACallGoesThrough(t *testing.T) {
	r := start(t, setup{})
	r.connect(portalID)
	response, err := r.client.Get(r.url("/crm/v3/objects/contacts?limit=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	echo, err := hubspottest.DecodeEcho(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || echo.Portal != portalID || echo.Target != "/crm/v3/objects/contacts?limit=1" {
		t.Errorf("status %d, portal %q, target %q", response.StatusCode, echo.Portal, echo.Target)
	}
	rest, _ := io.ReadAll(response.Body)
	noSecret(t, "the rest of the answer", string(rest))
	noSecret(t, "the log", r.logs.String())
}
