package upstream_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"hubspot-auth-proxy/proxy/upstream"
)

func Example() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "you asked for "+r.RequestURI)
	}))
	defer api.Close()
	address, _ := url.Parse(api.URL)

	transport := upstream.New(upstream.Config{URL: address, Timeout: 2 * time.Minute})
	defer transport.CloseIdleConnections()

	request, _ := http.NewRequest("GET", api.URL+"/crm/v3/owners", nil)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	answer.Body.(upstream.Body).OnWait(func() {
		// Pass on what was read: the next bytes are not there yet.
	})
	text, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(text), err)
	// Output: 200 you asked for /crm/v3/owners <nil>
}
