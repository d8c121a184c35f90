package admin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// goodReturnURLs are addresses of HubSpot, which are not changed.
var goodReturnURLs = []string{
	"https://app.hubspot.com", "https://app.hubspot.com/", "https://app.hubspot.com/a/b?c=d&e", "https://app.hubspot.com?x=https%3A%2F%2Fevil.example",
	"https://app-eu1.hubspot.com/ecosystem/62515/marketplace/apps", "https://app-na2.hubspot.com/", "https://app-ap12.hubspot.com/?a",
	"https://app.hubspot.com//evil.example/", "https://app.hubspot.com/%2F%2Fevil.example/a%40b", "https://app.hubspot.com/../..//x",
}

// badReturnURLs are addresses that some browser may read as those of another site.
var badReturnURLs = []string{
	"", " ", "/", "//app.hubspot.com/", "app.hubspot.com", "http://app.hubspot.com/", "HTTPS://app.hubspot.com/", "https:/app.hubspot.com/", "https:app.hubspot.com/",
	"https://APP.hubspot.com/", "https://app.HubSpot.com/", "https://app.hubspot.com:443/", "https://app.hubspot.com:/", "https://app-eu1.hubspot.com:8443/",
	"https://evil.example/", "https://app.hubspot.com.evil.example/", "https://app.hubspot.comevil.example/", "https://evil-app.hubspot.com/",
	"https://evil.example/https://app.hubspot.com/", "https://evil.example?https://app.hubspot.com/", "https://app.hubspot.com@evil.example/",
	"https://user@app.hubspot.com/", "https://user:pass@app.hubspot.com/", "https://app.hubspot.com/@evil.example", "https://app.hubspot.com\\@evil.example/",
	"https://app.hubspot.com\\.evil.example/", "https://app.hubspot.com/\\evil.example", "https:\\\\app.hubspot.com/", "https://app.hubspot.com#@evil.example/",
	"https://app.hubspot.com/#x", "https://app.hubspot.com/#", "https://app-eu.hubspot.com/", "https://app-eu123.hubspot.com/", "https://app-eur1.hubspot.com/",
	"https://app-EU1.hubspot.com/", "https://api.hubspot.com/", "https://app.hubspot.com./", "https://app.hubspot。com/", "https://аpp.hubspot.com/",
	"https://app.hubspot.com/\r\nSet-Cookie: a=b", "https://app.hubspot.com/\n", "https://app.hubspot.com/\t", "https://app.hubspot.com/\x00", "https://app.hubspot.com/\x7f",
	"https://app.hubspot.com/ ", " https://app.hubspot.com/", "\thttps://app.hubspot.com/", "https://\tapp.hubspot.com/", "https://app\n.hubspot.com/",
	"https://app.hubspot.com/\u202e", "https://app.hubspot.com/\xff", "https://app.hubspot.com/%", "https://app.hubspot.com/%zz", "https://app.hubspot.com/?%zz",
	"https://app.hubspot.com%2eevil.example/", "https://app.hubspot.com/?a;b", "javascript:alert(1)//https://app.hubspot.com/",
}

func TestOnlyHubSpotsAddressesAreValidReturnURLs(t *testing.T) {
	for _, text := range goodReturnURLs {
		if back, ok := parseReturnURL([]string{text}); !ok || back.String() != text {
			t.Errorf("%q: %v, made anew %q", text, ok, back.String())
		}
	}
	for _, text := range badReturnURLs {
		if back, ok := parseReturnURL([]string{text}); ok {
			t.Errorf("%q is taken, as %q", text, back.String())
		}
	}
	for _, sent := range [][]string{nil, {goodReturnURLs[0], goodReturnURLs[0]}} {
		if _, ok := parseReturnURL(sent); ok {
			t.Errorf("%q is taken", sent)
		}
	}
}

// strictReturnURL matches every address to which the proxy may redirect.
var strictReturnURL = regexp.MustCompile(`^https://app(-[a-z]{2}[0-9]{1,2})?\.hubspot\.com(/[!-~]*|\?[!-~]*)?$`)

func FuzzReturnURL(f *testing.F) {
	for _, text := range append(goodReturnURLs, badReturnURLs...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		back, ok := parseReturnURL([]string{text})
		if !ok {
			return
		}
		w := httptest.NewRecorder()
		redirect(w, back.String())
		location := w.Header().Get("Location")
		u, err := url.Parse(location)
		if err != nil || w.Code != http.StatusFound || !strictReturnURL.MatchString(location) || strings.ContainsAny(location, `@\#`) ||
			u.User != nil || u.Port() != "" || u.Fragment != "" || !strings.HasSuffix("."+u.Hostname(), ".hubspot.com") {
			t.Errorf("%q leads to %q", text, location)
		}
		if again, ok := parseReturnURL([]string{location}); !ok || again.String() != location {
			t.Errorf("%q: made anew again, %q is %q", text, location, again.String())
		}
	})
}
