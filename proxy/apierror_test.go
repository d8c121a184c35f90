package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// zipped returns text, gzipped.
func zipped(text string) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

func rejected(body io.Reader, encoding string) *http.Response {
	return &http.Response{StatusCode: 401, Header: http.Header{"Content-Encoding": {encoding}}, Body: io.NopCloser(body)}
}

var errCut = errors.New("cut")

// FuzzReadCategory: whatever a 401's body is, the client gets it as it came,
// with the error that it ended with, and its category is what JSON says.
func FuzzReadCategory(f *testing.F) {
	expired := `{"status":"error","category":"EXPIRED_AUTHENTICATION"}`
	f.Add([]byte(expired), false, false)
	f.Add(zipped(expired), true, false)
	f.Add(zipped(expired)[:40], true, true)
	f.Add([]byte(expired), true, true)
	f.Add(zipped(expired+strings.Repeat(" ", 1<<20)), true, false)
	f.Add([]byte(strings.Repeat("[", 20000)), false, false)
	f.Add([]byte(`{"category":1,"category":"A","Category":"B"}`), false, false)
	f.Add(append(zipped(`{"category":`), zipped(`"A"}`)...), true, false)
	f.Fuzz(func(t *testing.T, body []byte, gzipped, cut bool) {
		encoding := map[bool]string{true: "gzip"}[gzipped]
		source := io.Reader(bytes.NewReader(body))
		if cut {
			source = io.MultiReader(source, iotest.ErrReader(errCut))
		}
		response := rejected(source, encoding)
		category := readCategory(response)
		got, err := io.ReadAll(response.Body)
		if !bytes.Equal(got, body) || errors.Is(err, errCut) != cut {
			t.Fatalf("%q came as %q, error %v", body, got, err)
		}
		if !gzipped && len(body) <= maxErrorBody && json.Valid(body) {
			var want struct{ Category any }
			_ = json.Unmarshal(body, &want)
			if text, _ := want.Category.(string); text != category {
				t.Fatalf("%q has category %q, not %q", body, category, text)
			}
		}
		if len(category) > maxErrorBody {
			t.Fatalf("a category of %d bytes", len(category))
		}
	})
}

// A gzip bomb costs no more than any other 401.
func TestABombInA401CostsLittle(t *testing.T) {
	for name, body := range map[string][]byte{
		"much of nothing":           bytes.Repeat(zipped(strings.Repeat(" ", 1<<20)), 96), // members, as if they were one
		"many empty members":        bytes.Repeat(zipped(""), maxErrorBody/20),
		"a deep list":               bytes.Repeat(zipped(strings.Repeat("[", 1<<16)), 128),
		"a name without an end":     append([]byte("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00"), bytes.Repeat([]byte("a"), 1<<20)...),
		"a category without an end": append(zipped(`{"category":"`), bytes.Repeat(zipped(strings.Repeat("A", 1<<16)), 128)...),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			category := readCategory(rejected(bytes.NewReader(body), "gzip"))
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if category != "" {
				t.Errorf("category %.40q", category)
			}
			if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 2<<20 || took > 2*time.Second {
				t.Errorf("%d KiB of %d were allocated for it, in %v", bytes>>10, len(body)>>10, took)
			}
		})
	}
}

// What a category is shown as must not be an echo of a credential.
func TestOnlyWhatHasTheFormOfACategoryIsShown(t *testing.T) {
	for text, want := range map[string]string{
		"MISSING_SCOPES": "MISSING_SCOPES", "RATE_LIMITS": "RATE_LIMITS", "": "", "CKjmx0aBc8_QdR": "", "5b1f0c2e4d9a4f6b8e7a": "",
		"pat-na1-1": "", "A B": "", "<b>": "", strings.Repeat("A", 65): "",
	} {
		if got := categoryOf(apiError{Category: text}); got != want {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
}
