package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"
)

func TestAProxyThatIsStoppingIsLeftByItsClients(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			r := start(t, setup{})
			r.connect(portalID)
			server := httptest.NewUnstartedServer(r.proxy)
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()
			reused := func() (so bool) {
				trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { so = info.Reused }}
				request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := server.Client().Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				return so
			}
			if _, kept := reused(), reused(); !kept {
				t.Error("a connection is not kept")
			}
			r.proxy.Stopping()
			reused() // the answer says that the connection closes
			for deadline := time.Now().Add(10 * time.Second); reused(); {
				if time.Now().After(deadline) {
					t.Fatal("the connection is used on")
				}
			}
		})
	}
}
