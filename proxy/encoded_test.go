package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What is compressed, be it well or not at all, is none of the proxy's business.
func TestEncodedBodiesPassUntouchedBothWays(t *testing.T) {
	set, _ := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header()["Content-Encoding"] = r.Header["Content-Encoding"]
		rw.Header()["X-Accepted"] = r.Header["Accept-Encoding"]
		body, _ := io.ReadAll(r.Body)
		_, _ = rw.Write(body)
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd", "gzip, br", "identity", "x-none"} {
		for name, sent := range map[string][]byte{"one": {0}, "noise": bytesOf(100<<10, 7), "the beginning of gzip": []byte("\x1f\x8b\x08\x00cut")} {
			got := r.call("POST", "/a", bytes.NewReader(sent), "Content-Encoding", encoding, "Accept-Encoding", encoding)
			if got.StatusCode != http.StatusOK || !bytes.Equal(got.body, sent) {
				t.Errorf("%s, %s: status %d, %d bytes of %d", encoding, name, got.StatusCode, len(got.body), len(sent))
			}
			if header := got.Header.Get("Content-Encoding") + "|" + got.Header.Get("X-Accepted"); header != encoding+"|"+encoding {
				t.Errorf("%s, %s: came as %q", encoding, name, header)
			}
		}
	}
	if got := r.call("GET", "/a", nil); strings.Join(got.Header["X-Accepted"], "") != "" {
		t.Errorf("the proxy itself accepts %q", got.Header["X-Accepted"])
	}
}
