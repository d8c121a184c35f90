package wire_test

import (
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"hubspot-auth-proxy/proxy/wire"
)

func TestAPlainPathIsReadAlikeByAllServers(t *testing.T) {
	for _, plain := range []string{
		"/", "/a", "/a/", "/crm/v3/objects/contacts/1", "/a-b._~/@:!$'()*,+=&", "/a%20b", "/%C3%A9", "/%e4%b8%96", "/a.b", "/...", "/.a", "/a..", "/a%41", "/a%22%3C%7c",
	} {
		if !wire.IsPlainPath(plain) {
			t.Errorf("%q is not plain", plain)
		}
	}
	for _, odd := range []string{
		"", "a", "*", "//", "//a", "/a//b", "/a//", "/.", "/..", "/a/../b", "/a/.", "/./a", "/a/..", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/%2e", "/%2E%2e/a", "/a;b", "/a%3bb", "/a%25b", "/a%252fb",
		"/a%", "/a%2", "/a%zz", "/a%00", "/a%0a", "/a%7f", "/a%3f", "/a%23", "/a?b", "/a#b", "/a b", "/a|b", "/a\"", "/a<", "/a[b]", "/a^", "/a`", "/a{b}", "/é", "/\xff", "/a\x00",
		"/a%ff", "/%c0%af", "/%c0%ae%c0%ae/", "/%e0%80%af", "/%c2%85", "/%c2%9b", "/%u002f",
	} {
		if wire.IsPlainPath(odd) {
			t.Errorf("%q is plain", odd)
		}
	}
}

func TestARuleIsAPrefixOfWholeSegments(t *testing.T) {
	for _, rule := range []string{"/", "/crm", "/crm/v3/objects/contacts", "/a-b._~@:"} {
		if !wire.IsPathRule(rule) {
			t.Errorf("%q is no rule", rule)
		}
	}
	for _, rule := range []string{"", "crm", "/crm/", "//", "/crm//v3", "/crm/../x", "/a%20b", "/a*b?", "/a b", "*", "/crm;"} {
		if wire.IsPathRule(rule) {
			t.Errorf("%q is a rule", rule)
		}
	}
	for path, want := range map[string]bool{"/crm/v3": true, "/crm/v3/": true, "/crm/v3/a": true, "/crm/v3a": false, "/crm": false, "/": false, "/CRM/v3": false, "/x/crm/v3": false} {
		if got := wire.IsUnder(path, "/crm/v3"); got != want {
			t.Errorf("%q: %t", path, got)
		}
		if !wire.IsUnder(path, "/") {
			t.Errorf("%q is not under /", path)
		}
	}
}

func TestAPathIsNotOverridden(t *testing.T) {
	for name, want := range map[string]bool{"X-Original-Url": true, "X_rewrite_url": true, "X-Original-Uri": true, "X-Url": false, "Referer": false} {
		if got := wire.OverridesPath(http.Header{name: {"/a"}}); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// readers are the ways in which servers change a path before they route it.
var readers = map[string]func(string) string{
	// nginx decodes once, merges slashes, and resolves dot segments.
	"nginx": func(raw string) string { return path.Clean(squeeze(lenient(raw))) + ending(lenient(raw)) },
	// Envoy's path normalization, with escaped slashes taken for slashes.
	"Envoy": func(raw string) string {
		raw = regexp.MustCompile(`(?i)%2f`).ReplaceAllString(raw, "/")
		raw = regexp.MustCompile(`(?i)%5c`).ReplaceAllString(raw, "/")
		raw = strings.ReplaceAll(raw, `\`, "/")
		return lenient(path.Clean(squeeze(raw)) + ending(raw))
	},
	// A servlet container cuts a segment's parameters off before it decodes.
	"servlet": func(raw string) string {
		raw = regexp.MustCompile(`;[^/]*`).ReplaceAllString(raw, "")
		return path.Clean(squeeze(lenient(raw))) + ending(lenient(raw))
	},
	// A server that decodes before it resolves, and twice.
	"twice": func(raw string) string {
		twice := regexp.MustCompile(`;[^/]*`).ReplaceAllString(strings.ReplaceAll(lenient(lenient(raw)), `\`, "/"), "")
		return path.Clean(squeeze(twice)) + ending(twice)
	},
	// An old server that accepts overlong UTF-8, and ends strings at NUL.
	"overlong": func(raw string) string {
		text, _, _ := strings.Cut(overlong(lenient(raw)), "\x00")
		text, _, _ = strings.Cut(text, "?")
		text, _, _ = strings.Cut(text, "#")
		return path.Clean(squeeze(text)) + ending(text)
	},
	// A browser, or a client that follows the WHATWG's standard for URLs.
	"WHATWG": func(raw string) string {
		raw = strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(raw)
		raw = regexp.MustCompile(`(?i)%2e`).ReplaceAllString(raw, ".")
		u, err := url.Parse("http://h" + raw)
		if err != nil {
			return raw
		}
		return lenient(u.JoinPath().EscapedPath())
	},
}

func squeeze(text string) string { return regexp.MustCompile(`/+`).ReplaceAllString(text, "/") }

// ending returns the final slash, which path.Clean removes.
func ending(text string) string {
	if len(text) > 1 && strings.HasSuffix(text, "/") {
		return "/"
	}
	return ""
}

// lenient decodes valid escapes, and leaves invalid ones as they are.
func lenient(text string) string {
	return regexp.MustCompile(`%[0-9A-Fa-f]{2}`).ReplaceAllStringFunc(text, func(escape string) string {
		decoded, _ := url.PathUnescape(escape)
		return decoded
	})
}

// overlong decodes an ASCII character that is encoded in two bytes of UTF-8.
func overlong(text string) string {
	var out []byte
	for i := 0; i < len(text); i++ {
		if i+1 < len(text) && text[i]&0xfe == 0xc0 && text[i+1]&0xc0 == 0x80 {
			out = append(out, text[i]&0x1f<<6|text[i+1]&0x3f)
			i++
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}

// slowPlain is a second implementation of IsPlainPath, to compare with.
func slowPlain(raw string) bool {
	if !regexp.MustCompile(`^(/([A-Za-z0-9._~@:!$'()*,+=&-]|%[0-9A-Fa-f]{2})*)+$`).MatchString(raw) ||
		regexp.MustCompile(`(?i)//|/\.{1,2}(/|$)|%(2f|5c|2e|3b|25|3f|23|[01][0-9a-f]|7f)`).MatchString(raw) {
		return false
	}
	decoded, err := url.PathUnescape(raw)
	if err != nil || !utf8.ValidString(decoded) {
		return false
	}
	for _, c := range decoded {
		if unicode.Is(unicode.Cc, c) {
			return false
		}
	}
	return true
}

// FuzzPathRules checks that no server reads a path that a rule allows as a path that
// the rule does not allow.
func FuzzPathRules(f *testing.F) {
	rules := []string{"/", "/crm/v3/objects/contacts", "/crm", "/a.b/c"}
	for _, rule := range rules {
		for _, rest := range []string{"", "/", "/1", "/../deals", "/..", "/%2e%2e/deals", "/..;/deals", "/..%2fdeals", "%2f..%2f..%2fdeals", "//../../x", "/%252e%252e/x", "/\\..\\x", "/.%00./x", "/%c0%ae%c0%ae/x", "x", "/a%20b/%C3%A9", "/...", ";/../x", "/.", "%"} {
			f.Add(rule+rest, uint8(len(rest)))
		}
	}
	f.Fuzz(func(t *testing.T, raw string, index uint8) {
		plain := wire.IsPlainPath(raw)
		if slow := slowPlain(raw); plain != slow {
			t.Fatalf("%q is plain: %t, by other means %t", raw, plain, slow)
		}
		rule := rules[int(index)%len(rules)]
		if !plain || !wire.IsUnder(raw, rule) {
			return
		}
		first := readers["nginx"](raw)
		for name, read := range readers {
			got := read(raw)
			if got != rule && !strings.HasPrefix(got, strings.TrimSuffix(rule, "/")+"/") {
				t.Fatalf("%q is under %q, but %s reads %q", raw, rule, name, got)
			}
			if got != first {
				t.Fatalf("%s reads %q in %q, nginx %q", name, got, raw, first)
			}
		}
	})
}
