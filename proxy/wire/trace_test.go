package wire_test

import (
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy/wire"
)

func TestTheTraceIDIsReadFromOneValidTraceparent(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	const good = "00-" + id + "-00f067aa0ba902b7-01"
	for text, want := range map[string]string{
		good:                      id,
		"cc" + good[2:]:           id,
		"cc" + good[2:] + "-more": id,
		good + "-more":            "", // version 00 ends after the flags
		"cc" + good[2:] + "more":  "",
		"ff" + good[2:]:           "",
		good[:54]:                 "",
		strings.ToUpper(good):     "",
		strings.Replace(good, id, strings.Repeat("0", 32), 1): "",
		strings.Replace(good, "-", "_", 1):                    "",
		strings.Replace(good, "b7-", "b7_", 1):                "",
		"":                                                    "",
		strings.Repeat("-", 55):                               "",
		strings.Replace(good, "4b", "\x1b[", 1):               "",
	} {
		if got := wire.TraceID([]string{text}); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if wire.TraceID(nil) != "" || wire.TraceID([]string{good, good}) != "" {
		t.Error("a trace id is read from no field, or from two")
	}
}
