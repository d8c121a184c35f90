//go:build race

package proxy_test

// raceDetector tells that the race detector is on, which makes everything
// slower and memory several times as large.
const raceDetector = true
