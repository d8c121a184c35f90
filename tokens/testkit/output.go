package testkit

import (
	"bytes"
	"regexp"
	"sync"
	"testing"
	"time"
)

// Output is a buffer for the output of a process or of a logger. The zero value is empty. An
// Output is safe for concurrent use.
type Output struct {
	// Keep is the smallest number of the latest bytes that are kept. Older bytes may be
	// dropped. 0 means that all bytes are kept. Keep must not change after the first write.
	Keep int

	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Keep > 0 && o.text.Len() > 2*o.Keep {
		o.text.Next(o.text.Len() - o.Keep)
	}
	return o.text.Write(p)
}

// Sync does nothing. It makes an Output a zapcore.WriteSyncer.
func (*Output) Sync() error { return nil }

// String returns the text that is kept.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Until waits until the text matches the regular expression, and returns the match and its
// groups as [regexp.Regexp.FindStringSubmatch] does. It fails the test if that takes longer
// than [Timeout].
func (o *Output) Until(tb testing.TB, pattern string) (groups []string) {
	tb.Helper()
	expression := regexp.MustCompile(pattern)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for deadline := time.Now().Add(Timeout); ; <-ticker.C {
		text := o.String()
		if groups := expression.FindStringSubmatch(text); groups != nil {
			return groups
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%q was not printed within %v; the output is:\n%s", pattern, Timeout, text)
		}
	}
}
