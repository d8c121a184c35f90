package wire_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy/wire"
)

func TestCredentialsAreRemovedFromTheQueryAndNothingElseChanges(t *testing.T) {
	for query, want := range map[string]string{
		"":                                       "",
		"a=1":                                    "a=1",
		"hapikey=K":                              "",
		"access_token=K":                         "",
		"HAPIKEY=K":                              "",
		"Access_Token=K":                         "",
		"hapi%6bey=K":                            "",
		"hapi%6Bey=K":                            "",
		"%68%61%70%69%6b%65%79=K":                "",
		"%48%41%50%49%4B%45%59=K":                "",
		"access%5Ftoken=K":                       "",
		"%61%63%63%65%73%73%5f%74%6f%6b%65%6e=K": "",
		"hapikey":                                "",
		"hapikey=":                               "",
		"hapikey==":                              "",
		"hapikey=K=a":                            "",
		"hapikey=K&a=1":                          "a=1",
		"a=1&hapikey=K":                          "a=1",
		"a=1&hapikey=K&b=2":                      "a=1&b=2",
		"a=1&hapikey=K&b=2&hapikey=L":            "a=1&b=2",
		"hapikey=K&hapikey=L":                    "",
		"hapikey=K&hapikey=L&a=1":                "a=1",
		"hapikey=K&access_token=L":               "",
		"a=1;hapikey=K":                          "a=1",
		"a=1;hapikey=K;b=2":                      "a=1;b=2",
		"a=1;hapikey=K&b=2":                      "a=1;b=2",
		"a=1&hapikey=K;b=2":                      "a=1&b=2",
		"hapikey=K;":                             "",
		"hapikey=K&":                             "",
		"&hapikey=K":                             "",
		"&hapikey=K&":                            "&",
		"&&hapikey=K":                            "&",
		"a=1&&hapikey=K":                         "a=1&",
		"a=1&hapikey=K&":                         "a=1&",
		"a=%zz&hapikey=K&b=%":                    "a=%zz&b=%",
		"z=1&a=2&hapikey=K&m=3":                  "z=1&a=2&m=3",
		"a=x+y&b=%20&c=%2B&hapikey=K":            "a=x+y&b=%20&c=%2B",

		// White space around the name does not count.
		"+hapikey=K":                          "",
		"hapikey%20=K":                        "",
		"%20+%09%0d%0ahapikey+%0b%0c=K":       "",
		"a=1&%e2%80%83access_token%c2%a0=K;b": "a=1&b",
		"%00hapikey%1f=K":                     "",
		strings.Repeat("+", 99) + "hapikey" + strings.Repeat("%20", 99) + "=K&a": "a",

		// None of these is a credential.
		"hapi+key=K":            "hapi+key=K",
		"+hapikey+x=K":          "+hapikey+x=K",
		"a=1;b=2":               "a=1;b=2",
		"x=%zz":                 "x=%zz",
		"%":                     "%",
		"a=&&b":                 "a=&&b",
		"&":                     "&",
		";":                     ";",
		"=hapikey":              "=hapikey",
		"a=hapikey":             "a=hapikey",
		"a=hapikey=K":           "a=hapikey=K",
		"xhapikey=K":            "xhapikey=K",
		"hapikeys=K":            "hapikeys=K",
		"hapike=K":              "hapike=K",
		"hapi%256bey=K":         "hapi%256bey=K",
		"hapi%6key=K":           "hapi%6key=K",
		"hapi%zzkey=K":          "hapi%zzkey=K",
		"a%26hapikey=K":         "a%26hapikey=K",
		"access-token=K":        "access-token=K",
		"access+token=K":        "access+token=K",
		"access_tokens=K":       "access_tokens=K",
		"after=%7B%22a%22%7D":   "after=%7B%22a%22%7D",
		strings.Repeat("a", 99): strings.Repeat("a", 99),
	} {
		if diff := cmp.Diff(want, wire.StripQuery(query)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

func TestAQueryWithoutCredentialIsNotCopied(t *testing.T) {
	query := "limit=100&properties=firstname&after=hapi"
	if n := testing.AllocsPerRun(10, func() { wire.StripQuery(query) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzStripQuery(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "hapikey=K", "a=1&hapi%6bey=K;b=2", "HAPIKEY&x=%zz", "&&;;hapikey", "hapikey;&",
		"%68%61pikey=%&access%5ftoken", "a=&&b", "a=1;b=2", "%", "hapikey=1&ha%70ikey=2&c", "\xe2\x84\xaa", "hapi\xe2\x84\xaaey=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := wire.StripQuery(query)
		for _, parameter := range parameters(got) {
			if isCredential(parameter) {
				t.Fatalf("%q is left in %q of %q", parameter, got, query)
			}
		}
		for _, form := range []string{got, strings.ReplaceAll(got, ";", "&")} {
			values, _ := url.ParseQuery(form)
			for name := range values {
				if isCredential(name) {
					t.Fatalf("net/url finds %q in %q of %q", name, got, query)
				}
			}
		}
		var kept []string
		for _, parameter := range parameters(query) {
			if !isCredential(parameter) {
				kept = append(kept, parameter)
			}
		}
		if len(kept) == len(parameters(query)) && got != query {
			t.Fatalf("%q has no credential, and became %q", query, got)
		}
		if len(kept) == 0 {
			kept = []string{""} // parameters returns one empty parameter for an empty query
		}
		if diff := cmp.Diff(kept, parameters(got)); diff != "" {
			t.Fatalf("what was kept of %q (-want +got):\n%s", query, diff)
		}
		if again := wire.StripQuery(got); again != got {
			t.Fatalf("%q became %q, and that %q", query, got, again)
		}
	})
}

// parameters splits a query as the most lenient server does.
func parameters(query string) []string {
	return strings.Split(strings.ReplaceAll(query, ";", "&"), "&")
}

var anEscape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// isCredential is a second implementation of IsCredential, to compare with.
func isCredential(parameter string) bool {
	name, _, _ := strings.Cut(parameter, "=")
	name = strings.Trim(unescaped(name), "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f \x7f"+
		"\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000")
	return strings.EqualFold(name, "hapikey") || strings.EqualFold(name, "access_token")
}
