package wire_test

import (
	"net/http"
	"testing"

	"hubspot-auth-proxy/proxy/wire"
)

func TestHeaderFieldsAreKnownInEverySpelling(t *testing.T) {
	for name, want := range map[string]struct{ proxied, overrides bool }{
		"Forwarded":              {proxied: true},
		"Via":                    {proxied: true},
		"X-Real-Ip":              {proxied: true},
		"X-Forwarded-For":        {proxied: true},
		"X-Forwarded-Anything":   {proxied: true},
		"X_forwarded_for":        {proxied: true},
		"x-real-ip":              {proxied: true},
		"X-Http-Method-Override": {overrides: true},
		"X-Http-Method":          {overrides: true},
		"X-Method-Override":      {overrides: true},
		"X_http_method_override": {overrides: true},
		"X-Http_method-Override": {overrides: true},
		"x_METHOD_override":      {overrides: true},
		"X-Forwarded":            {},
		"X-Original-Method":      {},
		"User-Agent":             {},
		"":                       {},
	} {
		header := http.Header{"Accept": {"a"}, name: {"DELETE"}}
		if got := wire.CameThroughProxy(&http.Request{ProtoMajor: 1, ProtoMinor: 1, Header: header}); got != want.proxied {
			t.Errorf("%q came through a proxy: %t", name, got)
		}
		if got := wire.OverridesMethod(header, "a=_method"); got != want.overrides {
			t.Errorf("%q overrides the method: %t", name, got)
		}
	}
	for _, version := range [][2]int{{1, 0}, {0, 9}, {1, 1}, {2, 0}} {
		r := http.Request{ProtoMajor: version[0], ProtoMinor: version[1]}
		if got, want := wire.CameThroughProxy(&r), version[0] == 0 || version == [2]int{1, 0}; got != want {
			t.Errorf("HTTP/%d.%d came through a proxy: %t", version[0], version[1], got)
		}
	}
}
