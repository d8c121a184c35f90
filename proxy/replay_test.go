package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// unsized hides from http.NewRequest how long the body is, so that it is sent
// chunked.
type unsized struct{ io.Reader }

// bytesOf returns n bytes that repeat after 251, and that differ from those of another seed.
// Most of them are copied, because the race detector makes a loop over all bytes slow.
func bytesOf(n, seed int) []byte {
	data := make([]byte, n)
	filled := min(n, 251)
	for i := range filled {
		data[i] = byte(i + seed)
	}
	for filled < n {
		filled += copy(data[filled:], data[:filled])
	}
	return data
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// arrived returns an error unless HubSpot has received the data as the body.
func (a reply) arrived(data []byte) error {
	echo, err := hubspottest.DecodeEcho(bytes.NewReader(a.body))
	if a.StatusCode != http.StatusOK || err != nil {
		return fmt.Errorf("status %d, %v: %.200s", a.StatusCode, err, a.body)
	}
	if echo.BodyBytes != int64(len(data)) || echo.BodySHA256 != sum(data) {
		return fmt.Errorf("%d bytes arrived of %d", echo.BodyBytes, len(data))
	}
	return nil
}

// hubs are the ways of talking to HubSpot.
var hubs = []struct {
	name  string
	start func() *hubspottest.Server
	http2 bool
	proto string
}{
	{"plain", hubspottest.NewServer, false, "HTTP/1.1"},
	{"TLS", func() *hubspottest.Server { return hubspottest.NewTLSServer(false) }, false, "HTTP/1.1"},
	{"HTTP2", func() *hubspottest.Server { return hubspottest.NewTLSServer(true) }, true, "HTTP/2.0"},
}

// overEachHub runs a test against each of them.
func overEachHub(t *testing.T, limit int64, test func(t *testing.T, r *rig, proto string)) {
	for _, h := range hubs {
		t.Run(h.name, func(t *testing.T) {
			hub := h.start()
			t.Cleanup(hub.Close)
			r, _ := startOAuth(t, setup{hub: hub, proxy: func(o *proxy.Options) {
				o.UpstreamHTTP2 = h.http2
				o.RetryBodyLimit = limit
				o.RetryMemory = 1 << 30
			}})
			test(t, r, h.proto)
		})
	}
}

func TestABodyArrivesWholeInTheSecondTry(t *testing.T) {
	const limit = 128 << 10
	overEachHub(t, limit, func(t *testing.T, r *rig, proto string) {
		r.hub.SetToken(hubspottest.TokenBehaviour{Latency: 30 * time.Millisecond})
		for _, early := range []bool{false, true} {
			r.hub.SetEarly401(early)
			sizes := []int{0, 1, 1 << 10, limit - 1, limit}
			if raceDetector {
				sizes = []int{1, limit}
			}
			for _, size := range sizes {
				for _, chunked := range []bool{false, true} {
					name := fmt.Sprintf("early %v, %d bytes, chunked %v", early, size, chunked)
					t.Run(name, func(t *testing.T) { r.postAll(t, size, chunked) })
				}
			}
		}
	})
}

// postAll sends many POSTs at once with an expired token. All must arrive, and
// most of them in a second try.
func (r *rig) postAll(t *testing.T, size int, chunked bool) {
	r.hub.Expire(portalID)
	before := r.hub.TokenCalls(portalID)
	var twice atomic.Int64
	together(t, volume(50, 16), 50, func(i int) error {
		data := bytesOf(size, i)
		var body io.Reader = bytes.NewReader(data)
		if chunked {
			body = unsized{body}
		}
		answer, err := r.exchange(r.request("POST", "/crm", body))
		if err != nil {
			return err
		}
		if answer.attempts == "2" {
			twice.Add(1)
		}
		return answer.arrived(data)
	})
	if twice.Load() == 0 {
		t.Error("no request was sent twice")
	}
	if calls := r.hub.TokenCalls(portalID) - before; calls != 1 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
}

// Bodies that are larger than all buffers on the way are still being sent when
// an early 401 comes.
func TestALargeBodyArrivesWholeAfterAnEarly401(t *testing.T) {
	overEachHub(t, 16<<20, func(t *testing.T, r *rig, _ string) {
		r.hub.SetEarly401(true)
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("chunked %v", chunked), func(t *testing.T) {
				r.hub.Expire(portalID)
				together(t, volume(5, 2), 5, func(i int) error {
					data := bytesOf(12<<20, i)
					var body io.Reader = bytes.NewReader(data)
					if chunked {
						body = unsized{body}
					}
					answer, err := r.exchange(r.request("POST", "/crm", body))
					if err != nil {
						return err
					}
					return answer.arrived(data)
				})
			})
		}
	})
}

func TestTheSecondTryHasTheFramingAndTrailersOfTheRequest(t *testing.T) {
	overEachHub(t, 1<<20, func(t *testing.T, r *rig, proto string) {
		data := bytesOf(5000, 1)
		for _, chunked := range []bool{false, true} {
			r.hub.Expire(portalID)
			request := r.request("POST", "/crm", bytes.NewReader(data), "Content-Type", "text/odd")
			if chunked {
				request.Body, request.ContentLength = io.NopCloser(unsized{bytes.NewReader(data)}), -1
				request.Trailer = http.Header{"X-Sum": {"one", "two"}}
			}
			answer, err := r.exchange(request)
			if err != nil {
				t.Fatal(err)
			}
			answer.want(t, 200, "2")
			if err := answer.arrived(data); err != nil {
				t.Error(err)
			}
			echo, _ := hubspottest.DecodeEcho(bytes.NewReader(answer.body))
			length, trailer := int64(len(data)), ""
			if chunked {
				length, trailer = -1, "one|two"
			}
			if echo.ContentLength != length || strings.Join(echo.Trailer["X-Sum"], "|") != trailer || echo.Proto != proto {
				t.Errorf("Content-Length %d, trailer %q, %s", echo.ContentLength, echo.Trailer["X-Sum"], echo.Proto)
			}
			if got := len(echo.TransferEncoding) > 0; got != (chunked && proto == "HTTP/1.1") {
				t.Errorf("chunked %v: Transfer-Encoding is %q", chunked, echo.TransferEncoding)
			}
		}
	})
}

// slowly starts a POST whose body the test writes; the answer comes on the
// channel.
func (r *rig) slowly(path string, length int64) (body *io.PipeWriter, answers <-chan reply) {
	reader, writer := io.Pipe()
	r.t.Cleanup(func() { _ = writer.CloseWithError(errors.New("the test is over")) })
	request := r.request("POST", path, reader)
	request.ContentLength = length
	done := make(chan reply, 1)
	go func() {
		answer, err := r.exchange(request)
		if err != nil {
			r.t.Error(err)
		}
		done <- answer
	}()
	return writer, done
}

// Whatever the client had sent when the early 401 came, and however much is
// still to come.
func TestABodyThatIsStillBeingSentAtTheEarly401ArrivesWhole(t *testing.T) {
	const limit = 64 << 10
	overEachHub(t, limit, func(t *testing.T, r *rig, _ string) {
		r.hub.SetEarly401(true)
		for _, size := range []int{2, 1000, limit, limit + 1, 3 << 20} {
			for _, length := range []int64{int64(size), -1} {
				t.Run(fmt.Sprintf("%d bytes, length %d", size, length), func(t *testing.T) {
					r.hub.Expire(portalID)
					data, calls := bytesOf(size, 3), r.hub.TokenCalls(portalID)
					body, answers := r.slowly("/crm", length)
					head := min(size-1, 500)
					_, _ = body.Write(data[:head])
					// The renewal shows that the proxy has got the 401.
					within(t, r.hub, func() bool { return r.hub.TokenCalls(portalID) > calls })
					_, _ = body.Write(data[head : size-1])
					_, _ = body.Write(data[size-1:])
					_ = body.Close()
					answer := <-answers
					if answer.Response == nil {
						return
					}
					answer.want(t, 200, "2")
					if err := answer.arrived(data); err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
}

func TestABodyOverTheLimitIsNotRepeatedButTheTokenIsRenewed(t *testing.T) {
	const limit = 64 << 10
	overEachHub(t, limit, func(t *testing.T, r *rig, _ string) {
		for _, chunked := range []bool{false, true} {
			r.hub.Expire(portalID)
			calls := r.hub.TokenCalls(portalID)
			data := bytesOf(limit+1, 0)
			var body io.Reader = bytes.NewReader(data)
			if chunked {
				body = unsized{body}
			}
			answer := r.call("POST", "/crm", body)
			answer.want(t, 401, "1")
			if !strings.Contains(string(answer.body), `"category":"EXPIRED_AUTHENTICATION"`) ||
				answer.Header.Get("X-Hubspot-Auth-Failure") == "" {
				t.Errorf("not HubSpot's own answer: %s", answer.body)
			}
			within(t, r.hub, func() bool { return r.hub.TokenCalls(portalID) == calls+1 })
			// The client's own second try may have to wait for the renewal,
			// but is not rejected for long.
			again := r.call("POST", "/crm", bytes.NewReader(data))
			for range 100 {
				if again.StatusCode == http.StatusOK {
					break
				}
				again = r.call("POST", "/crm", bytes.NewReader(data))
			}
			if err := again.arrived(data); err != nil {
				t.Error(err)
			}
			if n := r.hub.TokenCalls(portalID); n != calls+1 {
				t.Errorf("%d calls of the token endpoint", n-calls)
			}
		}
	})
}

// Bodies that find no memory left stream all the same, and all memory comes
// back in the end.
func TestBodiesBeyondRetryMemoryStreamAndAreNotRepeated(t *testing.T) {
	const memory = 64 << 10
	read := make(chan struct{}, 1)
	var dead atomic.Value // the token that HubSpot rejects
	dead.Store("")
	set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			_, _ = io.CopyN(io.Discard, q.Body, memory-8<<10)
			read <- struct{}{}
		}
		_, _ = io.Copy(io.Discard, q.Body)
		if q.URL.Path != "/slow" && q.Header.Get("Authorization") == dead.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"category":"EXPIRED_AUTHENTICATION"}`)
			return
		}
		if q.URL.Path == "/token" {
			dead.Store(q.Header.Get("Authorization"))
		}
	})
	r := start(t, setup{proxy: func(o *proxy.Options) {
		set(o)
		o.RetryBodyLimit, o.RetryMemory = memory, memory
	}})
	r.connect(portalID)
	post := func() reply { return r.call("POST", "/crm", bytes.NewReader(bytesOf(memory-8<<10, 0))) }
	for range 20 {
		r.call("GET", "/token", nil).want(t, 200, "1")
		slow, answers := r.slowly("/slow", -1)
		_, _ = slow.Write(bytesOf(memory-8<<10, 0))
		<-read
		post().want(t, 401, "1")
		_ = slow.Close()
		(<-answers).want(t, 200, "1")
		// The token was renewed in the background, perhaps a moment later.
		testkit.Eventually(t, "the renewed token", func() bool { return post().StatusCode == http.StatusOK })
		r.call("GET", "/token", nil).want(t, 200, "1")
		post().want(t, 200, "2")
	}
}

func TestExpectContinueSendsTheBodyOnceTheCredentialIsGood(t *testing.T) {
	overEachHub(t, 1<<20, func(t *testing.T, r *rig, _ string) {
		for _, early := range []bool{true, false} {
			r.hub.SetEarly401(early)
			r.hub.Expire(portalID)
			conn := r.raw("POST /crm HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n" +
				"Content-Length: 10\r\nX-Hubspot-Auth-Proxy-Debug: 1\r\n\r\n")
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			reader := bufio.NewReader(conn)
			if line, err := reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("early %v: %q, %v", early, line, err)
			}
			_, _ = reader.ReadString('\n')
			_, _ = io.WriteString(conn, "0123456789")
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			answer := reply{response, body, response.Header.Get("X-Hubspot-Auth-Proxy-Attempts")}
			answer.want(t, 200, "2") // and no second 100
			if err := answer.arrived([]byte("0123456789")); err != nil {
				t.Errorf("early %v: %v", early, err)
			}
		}
	})
}
