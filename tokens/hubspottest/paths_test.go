package hubspottest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// hubs runs a test with a server that uses HTTP/1.1 and with one that uses HTTP/2.
func hubs(t *testing.T, test func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string)) {
	t.Helper()
	for _, http2 := range []bool{false, true} {
		name := "HTTP 1.1"
		if http2 {
			name = "HTTP 2"
		}
		t.Run(name, func(t *testing.T) {
			hub := hubspottest.NewTLSServer(http2)
			t.Cleanup(hub.Close)
			test(t, hub, newClient(t, hub), hub.Issue(portal, time.Hour))
		})
	}
}

func TestALargeBodyIsCountedAndHashed(t *testing.T) {
	hubs(t, func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string) {
		const size = 8 << 20
		e := echoOf(t, do(t, client, "POST", hub.URL+"/files", token, bytes.NewReader(make([]byte, size))))
		const zeros = "2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74"
		if e.BodyBytes != size || e.ContentLength != size || e.BodySHA256 != zeros {
			t.Errorf("%d of %d bytes, %s", e.BodyBytes, e.ContentLength, e.BodySHA256)
		}
	})
}

func TestADownloadHasEveryByte(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		length      int64
		size        int
	}{
		{"announced", "bytes=100000", 100000, 100000},
		{"chunked", "bytes=100000&chunked=1", -1, 100000},
		{"chunked and short", "bytes=3&chunked=1", -1, 3},
		{"empty", "bytes=0", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hubs(t, func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string) {
				a := do(t, client, "GET", hub.URL+"/fake/download?"+tt.query, token, nil)
				if a.ContentLength != tt.length || len(a.body) != tt.size {
					t.Errorf("%d announced, %d received", a.ContentLength, len(a.body))
				}
				for i := range len(a.body) {
					if a.body[i] != byte(i%251) {
						t.Fatalf("byte %d is %d", i, a.body[i])
					}
				}
			})
		})
	}
}

func TestInvalidNumbersAreRefused(t *testing.T) {
	hub := newHub(t)
	client, token := newClient(t, hub), hub.Issue(portal, time.Hour)
	for _, target := range []string{
		"/fake/download", "/fake/download?bytes=-1", "/fake/events?n=0", "/fake/break?bytes=x",
		"/fake/status?code=101", "/fake/status?code=1000",
	} {
		if a := do(t, client, "GET", hub.URL+target, token, nil); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", target, a.StatusCode)
		}
	}
}

func TestEventsComeOneByOne(t *testing.T) {
	hubs(t, func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string) {
		r, _ := http.NewRequest("GET", hub.URL+"/fake/events?n=3", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("type %s", got)
		}
		lines := bufio.NewReader(response.Body)
		for _, want := range []string{"1", "2", "3"} {
			for _, line := range []string{"id: " + want, `data: {"event":` + want + "}", ""} {
				if got, err := lines.ReadString('\n'); got != line+"\n" {
					t.Fatalf("%q, want %q (%v)", got, line, err)
				}
			}
			hub.NextEvent()
		}
		if _, err := lines.ReadByte(); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
	})
}

func TestHintsComeBeforeAnAnswerWithoutContentType(t *testing.T) {
	hubs(t, func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string) {
		var link string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
				link = header.Get("Link")
				return nil
			},
		})
		r, _ := http.NewRequestWithContext(ctx, "GET", hub.URL+"/fake/hints", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		a := send(t, client, r)
		if link == "" {
			t.Error("no Link in the 103")
		}
		if types, ok := a.Header["Content-Type"]; ok || a.StatusCode != 200 {
			t.Errorf("status %d, type %q", a.StatusCode, types)
		}
	})
}

func TestTheRequestedStatusIsAnswered(t *testing.T) {
	hub := newHub(t)
	client, token := newClient(t, hub), hub.Issue(portal, time.Hour)
	for _, tt := range []struct {
		code   string
		status int
		want   string // part of the body
	}{
		{"204", 204, ""},
		{"304", 304, ""},
		{"401", 401, "INVALID_AUTHENTICATION"},
		{"429", 429, "TEN_SECONDLY_ROLLING"},
		{"477", 477, "correlationId"},
		{"503", 503, "correlationId"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			a := do(t, client, "GET", hub.URL+"/fake/status?code="+tt.code, token, nil)
			if a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("status %d, body %s", a.StatusCode, a.body)
			}
			if remaining := a.Header.Get("X-HubSpot-RateLimit-Remaining"); (remaining == "0") != (tt.status == 429) {
				t.Errorf("remaining %q", remaining)
			}
		})
	}
	if hub.Unauthorized() != 1 {
		t.Errorf("%d 401s counted", hub.Unauthorized())
	}
}

func TestClientsThatDisconnectAreCounted(t *testing.T) {
	hubs(t, func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string) {
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "POST", hub.URL+"/fake/hang", strings.NewReader("body"))
		r.Header.Set("Authorization", "Bearer "+token)
		go func() {
			_ = hub.Until(t.Context(), func() bool { return hub.Requests() == 1 })
			cancel()
		}()
		if _, err := client.Do(r); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		until(t, hub, func() bool { return hub.Cancelled() == 1 })
	})
}

func TestBrokenAnswersAreErrorsForTheClient(t *testing.T) {
	hubs(t, func(t *testing.T, hub *hubspottest.Server, client *http.Client, token string) {
		for _, path := range []string{"/fake/reset", "/fake/malformed", "/fake/break?bytes=1000"} {
			r, _ := http.NewRequest("POST", hub.URL+path, strings.NewReader("body"))
			r.Header.Set("Authorization", "Bearer "+token)
			response, err := client.Do(r)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			if err == nil {
				t.Errorf("%s: no error", path)
			}
		}
		// Other requests still work.
		echoOf(t, do(t, client, "GET", hub.URL+"/crm", token, nil))
	})
}

func TestABreakComesAfterTheFirstHalf(t *testing.T) {
	hub := newHub(t)
	r, _ := http.NewRequest("GET", hub.URL+"/fake/break?bytes=1000", nil)
	r.Header.Set("Authorization", "Bearer "+hub.Issue(portal, time.Hour))
	response, err := newClient(t, hub).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.ContentLength != 2000 || len(body) > 1000 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d of %d bytes, error %v", len(body), response.ContentLength, err)
	}
}
