//go:build race

package proxy_test

// raceDetector says that the race detector is on, which makes everything
// slower and memory several times as large.
const raceDetector = true
