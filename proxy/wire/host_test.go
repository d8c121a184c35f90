package wire_test

import (
	"net/netip"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy/wire"
)

func TestAHostNameIsReturnedInOneForm(t *testing.T) {
	for host, want := range map[string]string{
		"a": "a", "A.B:80": "a.b", "a.b.": "a.b", "a.b.:1": "a.b", "a:": "a", "127.0.0.1:8080": "127.0.0.1", "[::1]": "::1", "[::1]:80": "::1", "[::FFFF:1.2.3.4]:": "::ffff:1.2.3.4",
		"[fe80::1%eth0]": "fe80::1%eth0", "x_y-z": "x_y-z",
	} {
		if name, ok := wire.HostName(host); !ok || name != want {
			t.Errorf("%q is %q, %t, want %q", host, name, ok, want)
		}
	}
	for _, host := range []string{
		"", ":", ":80", ".", "a..b", ".a", "a..", "a b", "a/b", "u@a", "a,b", "a:80:90", "a:x", "localhost:80.evil.example", "[::1", "[::1]x", "[::1]evil.example", "[::1]80",
		"::1", "[127.0.0.1]", "[a]", "[]", "evil\u3002example", "\u212a", "a\x00", "a%2eb", "*", "[::1]:8a",
	} {
		if name, ok := wire.HostName(host); ok {
			t.Errorf("%q is taken for %q", host, name)
		}
	}
}

func TestOnlyNamesOfTheListenerAreAccepted(t *testing.T) {
	own := []string{"localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]", "62515.localhost", "a.b.localhost:80"}
	near := []string{"10.0.0.1", "0.0.0.0:8080", "[::]", "[2001:db8::1]:80", "192.168.0.1", "proxy", "hubspot-auth-proxy:8080", "x_y"}
	set := []string{"62515.hubspot.example.com", "a.hubspot.example.com.:80", "HUBSPOT.Tools.svc.cluster.local:80", "hubspot.tools.svc.cluster.local."}
	foreign := []string{
		"", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost.example", "hubspot.example.com", "xhubspot.example.com", "hubspot.example.com.evil.example",
		"a.hubspot.tools.svc.cluster.local", "ai.", "a b", "localhost:80:80", "[::1]evil.example", "evil.example:localhost", "evil\u3002example",
	}
	everywhere := wire.Hosts{Domain: "hubspot.example.com", Allowed: []string{"hubspot.tools.svc.cluster.local"}}
	loopback := everywhere
	loopback.Loopback = true
	for _, test := range []struct {
		hosts  wire.Hosts
		names  []string
		accept bool
	}{
		{everywhere, own, true}, {everywhere, near, true}, {everywhere, set, true}, {everywhere, foreign, false},
		{loopback, own, true}, {loopback, near, false}, {loopback, set, false}, {loopback, foreign, false},
		{wire.Hosts{}, own, true}, {wire.Hosts{}, near, true}, {wire.Hosts{}, set, false}, {wire.Hosts{}, foreign, false},
	} {
		for _, name := range test.names {
			if got := test.hosts.Accept(name); got != test.accept {
				t.Errorf("%+v: %q: %t", test.hosts, name, got)
			}
		}
	}
}

func TestASubdomainOfTheDomainIsFound(t *testing.T) {
	hosts := wire.Hosts{Domain: "a.example"}
	for host, want := range map[string]string{
		"62515.a.example": "62515", "62515.A.Example.:80": "62515", "x.62515.a.example": "x.62515",
		"a.example": "", "xa.example": "", "62515.b.example": "", "62515.a.example.evil.example": "", "[::1]": "", "": "", "x..y": "", "x:y": "",
		".a.example": ".a.example", "62515..a.example": "62515..a.example", "62515.a.example..": "62515.a.example..", "62515.A.example:8o": "62515.A.example:8o",
		"62515!.a.example": "62515!.a.example", "%36.a.example": "%36.a.example",
	} {
		if got := hosts.Below(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
	if got := (wire.Hosts{}).Below("62515.localhost"); got != "" {
		t.Errorf("%q without a domain", got)
	}
}

// FuzzHosts checks that every name that a web page can have is refused. Such a name
// has a dot, and with a dot only the operator's names, names below localhost and
// addresses are accepted.
func FuzzHosts(f *testing.F) {
	for _, host := range []string{"localhost", "evil.example:80", "[::1]:80", "127.0.0.1", "a.b.", "ai.", "x:y:z", "[::1%25a.b]", "62515.p.example", "1.2.3", "0x7f.1", "a.localhost.b"} {
		f.Add(host)
	}
	hosts := wire.Hosts{Domain: "p.example", Allowed: []string{"q.example"}}
	f.Fuzz(func(t *testing.T, host string) {
		if !hosts.Accept(host) || !strings.Contains(host, ".") {
			return
		}
		name, _, _ := strings.Cut(strings.ToLower(host), ":")
		name = strings.TrimSuffix(name, ".")
		_, err := netip.ParseAddr(name)
		switch {
		case err == nil, strings.HasPrefix(host, "["), name == "localhost", name == "q.example",
			strings.HasSuffix(name, ".localhost"), strings.HasSuffix(name, ".p.example"):
			return
		}
		t.Errorf("%q is accepted", host)
	})
}
