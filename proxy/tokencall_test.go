package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// tokenCall is a call of HubSpot's token endpoint up to its body.
func tokenCall(lines ...string) string {
	return "POST /oauth/2026-03/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

func chunked(size int) string {
	return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, strings.Repeat("a", size))
}

func TestATokenCallWithoutAKeyHasAShortBody(t *testing.T) {
	c := startKeyed(t)
	const limit = 64 << 10
	for name, test := range map[string]struct {
		request string
		long    bool
	}{
		"as long as may be":          {tokenCall(fmt.Sprint("Content-Length: ", limit)) + strings.Repeat("a", limit), false},
		"longer by a byte":           {tokenCall(fmt.Sprint("Content-Length: ", limit+1)) + strings.Repeat("a", limit+1), true},
		"longer, of which none came": {tokenCall("Content-Length: 100000000"), true},
		"chunked":                    {tokenCall("Transfer-Encoding: chunked") + chunked(limit), false},
		"chunked and longer":         {tokenCall("Transfer-Encoding: chunked") + chunked(limit+1), true},
		"expected":                   {tokenCall("Content-Length: 100000", "Expect: 100-continue"), true},
		"with a key":                 {tokenCall("Authorization: Bearer "+c.key["one"], fmt.Sprint("Content-Length: ", limit+1)) + strings.Repeat("a", limit+1), false},
		"with a key, chunked":        {tokenCall("Authorization: Bearer "+c.key["one"], "Transfer-Encoding: chunked") + chunked(2*limit), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.answerTo(test.request)
			if !test.long {
				if got.StatusCode != http.StatusBadRequest || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
					t.Errorf("status %d %s", got.StatusCode, got.text) // HubSpot's: such a body is no form
				}
				return
			}
			if message := refusal(t, got, refused{400, "REQUEST_INVALID"}); !strings.Contains(message, "64 KiB") || !got.Close {
				t.Errorf("message %q, %v", message, got.Header)
			}
		})
	}
}

func TestATokenCallWithoutAKeyMustNotBeSlow(t *testing.T) {
	t.Parallel()
	c := startKeyed(t)
	c.proxy.SetTokenBodyTime(200 * time.Millisecond)
	for _, body := range []string{tokenCall("Content-Length: 3") + "a", tokenCall("Transfer-Encoding: chunked") + "1\r\na\r\n"} {
		message := refusal(t, c.answerTo(body), refused{400, "REQUEST_INVALID"})
		if !strings.Contains(message, "30 seconds") {
			t.Errorf("message %q", message)
		}
		// A client with a key has all the time it likes, and so has the answer.
		conn := c.raw(strings.Replace(body, "\r\n", "\r\nAuthorization: Bearer "+c.key["one"]+"\r\n", 1))
		_ = conn.SetReadDeadline(time.Now().Add(600 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
			t.Errorf("with a key: %d, %v", n, err)
		}
	}
}

// The limit is on the body, not on HubSpot's answer.
func TestATokenCallMayWaitForItsAnswer(t *testing.T) {
	set, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(250 * time.Millisecond):
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "{}")
	})
	c := startKeyed(t, set)
	c.proxy.SetTokenBodyTime(100 * time.Millisecond)
	for _, over := range []func() (int, error){
		func() (int, error) { return c.answerTo(tokenCall("Content-Length: 3") + "a=b").StatusCode, nil },
		func() (int, error) { return c.tokenCallOverHTTP2(true) },
		func() (int, error) { return c.tokenCallOverHTTP2(false) },
	} {
		if status, err := over(); status != http.StatusOK || err != nil {
			t.Errorf("status %d, %v", status, err)
		}
	}
}

func (r *rig) tokenCallOverHTTP2(secured bool) (status int, err error) {
	server := r.overHTTP2(secured)
	response, err := server.Client().Post(server.URL+"/oauth/v1/token", "a/b", strings.NewReader("a=b"))
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func TestSlowTokenCallsWithoutAKeyHoldLittle(t *testing.T) {
	c := startKeyed(t)
	before := descriptors(t)
	answers := make(chan received, 100)
	var slow []net.Conn
	for range 100 {
		conn := c.raw(tokenCall("Content-Length: 3") + "a")
		slow = append(slow, conn)
		go func() {
			response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodPost})
			if err == nil {
				text, _ := io.ReadAll(response.Body)
				answers <- received{response, string(text), nil}
			}
			_ = conn.Close()
		}()
	}
	for range 84 {
		got := <-answers
		if message := refusal(t, got, refused{503, "OVERLOADED"}); !strings.Contains(message, "token endpoint") || got.Header.Get("Retry-After") != "1" {
			t.Errorf("message %q, %v", message, got.Header)
		}
	}
	// Of each slow one, both ends are here, and no connection to HubSpot.
	testkit.Eventually(t, "the refused ones are gone", func() bool { return descriptors(t)-before <= 16*2+8 })
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {one}"), portalID)
	refusal(t, c.answerTo(tokenCall("Content-Length: 0")), refused{503, "OVERLOADED"})
	if got := c.answerTo(tokenCall("Authorization: Bearer "+c.key["one"], "Content-Length: 0")); got.StatusCode != http.StatusBadRequest {
		t.Errorf("with a key: status %d", got.StatusCode)
	}
	// Those that end make room for others.
	for _, conn := range slow {
		_, _ = io.WriteString(conn, "=b")
	}
	for range 16 {
		if got := <-answers; got.StatusCode != http.StatusBadRequest || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
			t.Errorf("status %d %s", got.StatusCode, got.text)
		}
	}
	testkit.Eventually(t, "there is room", func() bool {
		return c.answerTo(tokenCall("Content-Length: 0")).StatusCode == http.StatusBadRequest
	})
}

// descriptors returns how many files this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(files)
}

func TestTheTokenEndpointCanBeClosedToThoseWithoutAKey(t *testing.T) {
	for _, anybody := range []bool{false, true} {
		c := startKeyed(t, func(o *proxy.Options) {
			o.OAuthNeedsKey, o.AllowAnonymous, o.DefaultPortal = true, anybody, staticPortal
		})
		refusal(t, c.answerTo(tokenCall("Content-Length: 0")), unauthenticated)
		refusal(t, c.answerTo(tokenCall("Content-Length: 0", "Authorization: Bearer placeholder")), unauthenticated)
		if got := c.answerTo(tokenCall("Authorization: Bearer "+c.key["one"], "Content-Length: 0")); got.StatusCode != http.StatusBadRequest {
			t.Errorf("with a key: status %d", got.StatusCode)
		}
	}
}
