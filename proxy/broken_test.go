package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// What a credential may look like when it comes back.
const (
	oddKey      = hubspottest.Canary + "/key+more=" // is escaped in a query
	oddKeyUpper = hubspottest.Canary + "%2Fkey%2Bmore%3D"
	oddKeyLower = hubspottest.Canary + "%2fkey%2bmore%3d"
)

// reflecting starts a rig with an upstream that always answers that.
func reflecting(t *testing.T, kind tokens.Kind, value, answer string) *rig {
	t.Helper()
	r := start(t, setup{proxy: script(t, answer).set})
	r.seed(portalID, kind, value)
	return r
}

func TestAnAnswerThatIsNotHTTPIsNotQuotedInTheLog(t *testing.T) {
	for name, answer := range map[string]string{
		"a status line":            "TOKEN\r\n\r\n",
		"a status of letters":      "HTTP/1.1 TOKEN OK\r\n\r\n",
		"a header without a colon": "HTTP/1.1 200 OK\r\nTOKEN\r\n\r\n",
		"a Content-Length":         "HTTP/1.1 200 OK\r\nContent-Length: TOKEN\r\n\r\n",
		"a Transfer-Encoding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: TOKEN\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, form := range []string{oddKey, oddKeyUpper, oddKeyLower, strings.ReplaceAll(oddKey, "/", `\/`)} {
				r := reflecting(t, tokens.APIKey, oddKey, strings.ReplaceAll(answer, "TOKEN", form))
				refusal(t, r.answerTo(head()), refused{502, "UPSTREAM_UNREACHABLE"})
				testkit.Eventually(t, "it is logged", func() bool { return strings.Contains(r.logs.String(), `"request"`) })
				noSecret(t, "the log", r.logs.String())
				if !strings.Contains(r.logs.String(), "no answer from HubSpot") {
					t.Error("the log does not say that there was no answer")
				}
			}
		})
	}
}

func TestTheLogSaysThatAStatusCannotBeFinal(t *testing.T) {
	for _, status := range []string{"099 X", "101 Switching Protocols"} {
		r := reflecting(t, tokens.AccessToken, staticToken, "HTTP/1.1 "+status+"\r\n\r\n")
		refusal(t, r.answerTo(head()), refused{502, "UPSTREAM_UNREACHABLE"})
		if !strings.Contains(r.logs.String(), "the answer's status is below 200") {
			t.Errorf("the log does not name the cause:\n%s", &r.logs.Output)
		}
	}
}

func TestAnAnswerThatBreaksOffIsLoggedWithoutWhatItSaid(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
	for name, answer := range map[string]string{
		"a trailer without a colon": chunked + "0\r\nBearer " + staticToken + "\r\n\r\n",
		"a chunk's length":          chunked + staticToken + "\r\n",
		"a body that is too short":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"no last chunk":             chunked,
	} {
		t.Run(name, func(t *testing.T) {
			r := reflecting(t, tokens.AccessToken, staticToken, answer)
			from := reading(r.raw(head()))
			response, err := http.ReadResponse(from, nil)
			if err == nil { // what came first may have been on its way
				_, err = io.Copy(io.Discard, response.Body)
			}
			if err == nil {
				t.Error("the client cannot tell")
			}
			testkit.Eventually(t, "it is logged", func() bool {
				return strings.Contains(r.logs.String(), "HubSpot broke off its answer") && strings.Contains(r.logs.String(), `"request"`)
			})
			if n := strings.Count(r.logs.String(), "HubSpot broke off its answer"); n != 1 {
				t.Errorf("it is logged %d times", n)
			}
			noSecret(t, "the log", r.logs.String())
		})
	}
}

func TestAnAnswerThatIsWholeIsNotSaidToBreakOff(t *testing.T) {
	r := reflecting(t, tokens.AccessToken, staticToken, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
	r.answerTo(head())
	testkit.Eventually(t, "it is logged", func() bool { return strings.Contains(r.logs.String(), `"request"`) })
	if strings.Contains(r.logs.String(), "broke off") {
		t.Error(r.logs)
	}
}

func TestAStatusThatIsNoneIs502(t *testing.T) {
	for _, status := range []string{"000", "001", "042", "099"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			r := reflecting(t, tokens.AccessToken, staticToken, "HTTP/1.1 "+status+" X\r\nContent-Length: 0\r\n\r\n")
			got := r.answerTo(method + " /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
			if got.StatusCode != 502 || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "UPSTREAM_UNREACHABLE" {
				t.Errorf("%s, status %s: answered %d %q", method, status, got.StatusCode, got.text)
			}
			if strings.Contains(r.logs.String(), "panic") {
				t.Errorf("status %s: %s", status, r.logs)
			}
		}
	}
}

func TestTrailersThatMustNotBeOnesDoNotArrive(t *testing.T) {
	lines := []string{
		"Host: evil", "Transfer-Encoding: chunked", "Authorization: Bearer mine", "Content-Length: 7",
		"Content-Type: text/evil", "Content-Encoding: gzip", "Content-Range: bytes 0-1/2", "Connection: close",
		"Keep-Alive: 1", "Proxy-Connection: close", "Te: trailers", "Trailer: X-A", "Upgrade: h2c", "Expect: 100-continue",
		"Proxy-Authorization: Basic eA==",
	}
	// Over HTTP/2, Go's client sends announced ones only.
	announce := map[string]string{"HTTP/2": "Trailer: X-Sum\r\n"}
	for name, hub := range map[string]setup{"HTTP/1.1": {}, "HTTP/2": {hub: tlsHub(t), proxy: func(o *proxy.Options) { o.UpstreamHTTP2 = true }}} {
		t.Run(name, func(t *testing.T) {
			r := startKinds(t, hub)
			for _, line := range append(lines, strings.Join(lines, "\r\n")) {
				got := r.answerTo("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" +
					announce[name] + "\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n" + line + "\r\n\r\n")
				if got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
					continue // net/http's server refuses some itself
				}
				echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
				if err != nil {
					t.Errorf("%q: answered %d %.200s", line, got.StatusCode, got.text)
					continue
				}
				if diff := cmp.Diff(http.Header{"X-Sum": {"1"}}, echo.Trailer); diff != "" {
					t.Errorf("%q (-want +got):\n%s", line, diff)
				}
				if echo.Header.Get("Content-Type") != "" || strings.Contains(echo.Host, "evil") || echo.BodyBytes != 3 {
					t.Errorf("%q: HubSpot got %q, %v", line, echo.Host, echo.Header)
				}
			}
		})
	}
}

func TestACredentialIsTakenOutHoweverItComesBack(t *testing.T) {
	for name, tt := range map[string]struct {
		kind         tokens.Kind
		value, lines string
	}{
		"a header's name":             {tokens.AccessToken, staticToken, staticToken + ": 1"},
		"a header's name, upper case": {tokens.AccessToken, staticToken, strings.ToUpper(staticToken) + ": 1"},
		"part of a header's name":     {tokens.AccessToken, staticToken, "X-" + staticToken + "-Y: 1"},
		"name and value":              {tokens.AccessToken, staticToken, staticToken + ": " + staticToken},
		"escaped":                     {tokens.APIKey, oddKey, "X-A: " + oddKeyUpper},
		"escaped in lower case":       {tokens.APIKey, oddKey, "X-A: " + oddKeyLower},
		"in a link":                   {tokens.APIKey, oddKey, "Link: </a?hapikey=" + oddKeyLower + ">; rel=next"},
		"in a location":               {tokens.APIKey, oddKey, "Location: /a?b=1&hapikey=" + oddKeyLower},
	} {
		t.Run(name, func(t *testing.T) {
			r := reflecting(t, tt.kind, tt.value, "HTTP/1.1 103 Early Hints\r\n"+tt.lines+"\r\n\r\n"+
				"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kept: yes\r\n"+tt.lines+"\r\n\r\n3\r\nabc\r\n0\r\n"+tt.lines+"\r\n\r\n")
			got := r.rawAnswer(head("Connection: close"))
			if strings.Contains(strings.ToLower(got), hubspottest.Canary) {
				t.Errorf("the answer has the credential:\n%s", got)
			}
			if !strings.Contains(got, "X-Kept: yes\r\n") || !strings.Contains(got, "abc") {
				t.Errorf("the answer has lost something:\n%s", got)
			}
			noSecret(t, "the log", r.logs.String())
		})
	}
}

func TestACredentialIsTakenOutOfTheNamesOfAnnouncedTrailers(t *testing.T) {
	for name, value := range map[string]string{
		"the credential":   staticToken,
		"in upper case":    strings.ToUpper(staticToken),
		"part of the name": "X-" + staticToken + "-Y",
	} {
		for _, trailers := range []string{"", "X-Sum: 1\r\n", value + ": 1\r\nX-Sum: 1\r\n"} {
			t.Run(name, func(t *testing.T) {
				r := reflecting(t, tokens.AccessToken, staticToken, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"+
					"Trailer: "+value+", X-Sum\r\n\r\n3\r\nabc\r\n0\r\n"+trailers+"\r\n")
				got := r.rawAnswer(head("Connection: close"))
				if strings.Contains(strings.ToLower(got), hubspottest.Canary) {
					t.Errorf("the answer has the credential:\n%s", got)
				}
				if !strings.Contains(got, "Trailer: X-Sum\r\n") || strings.Contains(got, "X-Sum: 1\r\n") != (trailers != "") {
					t.Errorf("the answer has lost a trailer:\n%s", got)
				}
			})
		}
	}
}
