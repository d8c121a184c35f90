package wire_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"hubspot-auth-proxy/proxy/wire"
)

func TestUnprintableCharactersAreEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"/a b/\u00e9?\u4e16":           "/a b/\u00e9?\u4e16",
		"a\\n":                         "a\\n",
		"a\nb\tc\x00\x7f":              `a\nb\tc\x00\x7f`,
		"\u009b2J":                     `\u009b2J`,
		"\u202egpj":                    `\u202egpj`,
		"a\u2028b\u2029":               `a\u2028b\u2029`,
		"\u0085\u00a0":                 `\u0085\u00a0`,
		"\u200b\ufeff\u00ad\U000e0001": `\u200b\ufeff\u00ad\U000e0001`,
		"\ue000\U0010ffff":             `\ue000\U0010ffff`,
		"\xff\x9b\xc3":                 `\xff\x9b\xc3`,
		"\xed\xa0\x80":                 `\xed\xa0\x80`,
		"\ufffd":                       "\ufffd",
		"\u0378":                       `\u0378`,
	} {
		if got := wire.Printable(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	plain := "/crm/v3/objects/contacts/" + strings.Repeat("a", 500)
	if n := testing.AllocsPerRun(10, func() { wire.Printable(plain) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, text := range []string{"", "a", "\x1b[2J", "\u202e\xff", "\ufffd\xef\xbf", "\U000e0041"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := wire.Printable(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(c rune) bool { return unicode.In(c, unicode.C) || !unicode.IsPrint(c) }) {
			t.Errorf("%q became %q", text, got)
		}
		if utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}
