package intercept_test

import (
	"testing"
	"time"
)

// BenchmarkCertificate is what a certificate takes that is cached, and one that
// is made: once in 17 hours for each name.
func BenchmarkCertificate(b *testing.B) {
	for name, step := range map[string]time.Duration{"cached": 0, "made": 24 * time.Hour} {
		b.Run(name, func(b *testing.B) {
			now := time.Now()
			authority, _ := load(b, "", func() time.Time { return now })
			b.ResetTimer()
			for i := range b.N {
				if i%1000 == 999 { // the CA's years are soon over
					b.StopTimer()
					authority, _ = load(b, "", func() time.Time { return now })
					now = time.Now()
					b.StartTimer()
				}
				now = now.Add(step)
				if _, err := authority.Certificate("api.hubapi.com"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
