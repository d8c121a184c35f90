package hubspot_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// echoing returns the app of a token endpoint that answers each call with these bytes.
// The endpoint replaces FORM by the form that it received.
func echoing(t *testing.T, answer string) *hubspot.App {
	t.Helper()
	address := testkit.Serve(t, func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		form, _ := io.ReadAll(request.Body)
		_, _ = io.WriteString(conn, strings.ReplaceAll(answer, "FORM", string(form)))
	})
	return appAt(t, "http://"+address+"/oauth/v3/token")
}

func TestNoErrorContainsTheFormThatTheAnswerRepeats(t *testing.T) {
	t.Parallel()
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
	for name, tt := range map[string]struct{ answer, problem string }{
		"a status line that is not HTTP":  {"FORM\r\n\r\n", "no answer"},
		"a status that is not a number":   {"HTTP/1.1 FORM\r\n\r\n", "no answer"},
		"an invalid version":              {"HTTP/FORM 200 OK\r\n\r\n", "no answer"},
		"a header line without a colon":   {"HTTP/1.1 200 OK\r\nFORM\r\n\r\n", "no answer"},
		"a Content-Length":                {"HTTP/1.1 200 OK\r\nContent-Length: FORM\r\n\r\n", "no answer"},
		"a Transfer-Encoding":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: FORM\r\n\r\n", "no answer"},
		"a trailer without a colon":       {chunked + "0\r\nFORM\r\n\r\n", "the answer broke off"},
		"a chunk's length":                {chunked + "FORM\r\n", "the answer broke off"},
		"an invalid Location":             {"HTTP/1.1 302 Found\r\nLocation: http://x/%zz?FORM\r\nContent-Length: 0\r\n\r\n", "no answer"},
		"a Location with another scheme":  {"HTTP/1.1 307 R\r\nLocation: FORM://x/\r\nContent-Length: 0\r\n\r\n", "no answer"},
		"a reason phrase":                 {"HTTP/1.1 500 FORM\r\nContent-Length: 0\r\n\r\n", ""},
		"a Location that is not followed": {"HTTP/1.1 308 R\r\nLocation: http://x/?FORM\r\nContent-Length: 0\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := refusalOf(t, echoing(t, tt.answer), hubspottest.Canary+"-refresh") // fails the test if the error has a secret
			if got.Problem != tt.problem || got.Kind != hubspot.Transient {
				t.Errorf("got %+v, want the problem %q", got, tt.problem)
			}
			if strings.Contains(got.Error(), "refresh_token") {
				t.Errorf("the error quotes the form: %v", got)
			}
		})
	}
}
