package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Load reads the settings from environ, which has the form of [os.Environ], and from the
// files that environ names. Load does not read the process's own environment. An error is
// [Faults], and contains all faults. The Config must not be used after an error.
func Load(environ []string) (Config, error) {
	l := loader{values: map[string]string{}, sources: map[string]string{}}
	l.gather(env.ToMap(environ))
	l.parse()
	l.complete()
	l.check()
	if len(l.faults) > 0 {
		return Config{}, l.faults
	}
	return l.Config, nil
}

// gather collects the text of every setting. The parser gets only these texts, and not
// the rest of environ.
func (l *loader) gather(environ map[string]string) {
	for _, s := range settings() {
		value, file, path := environ[s.name], s.name+"_FILE", ""
		if s.secret {
			path = environ[file]
		}
		switch {
		case value != "":
			l.values[s.name], l.sources[s.name] = value, "environment"
			if path != "" {
				l.fault(s.name, "is set, and so is "+file, "keep one of them")
			}
		case path != "":
			l.sources[s.name] = "file " + path
			if text, ok := l.readFile(file, path); ok {
				l.values[s.name] = text
			}
		}
	}
}

// parse sets the fields of Config from the texts. A text that cannot be parsed is a fault.
// Its variable then counts as unset, so that the checks see the default, and report no
// second fault.
func (l *loader) parse() {
	parsed, err := env.ParseAsWithOptions[Config](env.Options{Environment: l.values})
	if failed, ok := errors.AsType[env.AggregateError](err); ok {
		for _, err := range failed.Errors {
			l.refuse(err)
		}
		l.parse()
		return
	}
	l.Config = parsed
	l.Config.sources = l.sources
}

// refuse adds the fault of a text that could not be parsed. It does not use the message of
// err, because that quotes the value.
func (l *loader) refuse(err error) {
	bad, _ := errors.AsType[env.ParseError](err)
	field, _ := reflect.TypeFor[Config]().FieldByName(bad.Name)
	name := field.Tag.Get("env")
	value, set := l.values[name]
	if !set {
		panic(fmt.Sprintf("config: a tag of Config is wrong: %v", err)) // independent of the environment
	}
	delete(l.values, name)

	switch reflect.Zero(field.Type).Interface().(type) {
	case bool, *bool:
		l.fault(name, quote(value)+" is neither true nor false", "give true or false")
	case int64:
		l.fault(name, quote(value)+" is not a whole number, or is too large", "give a number of bytes, such as 1048576")
	case *int:
		l.fault(name, quote(value)+" is not a whole number, or is too large", "give a number such as 1000")
	case time.Duration:
		l.fault(name, quote(value)+" is not a duration", "give a number with its unit, such as 30s or 5m")
	case *url.URL:
		l.fault(name, "is not a URL", "give a URL such as "+urlExample(name)) // not quoted, because it may contain a password
	default:
		panic(fmt.Sprintf("config: no fault for the type %v", field.Type))
	}
}

// complete sets the defaults that depend on other settings. It also brings each value
// that can be written in several ways into one form.
func (l *loader) complete() {
	if l.UpstreamURL.Path == "/" {
		l.UpstreamURL.Path = ""
	}
	if l.HubSpotTokenURL == nil {
		l.HubSpotTokenURL = &url.URL{Scheme: l.UpstreamURL.Scheme, Host: l.UpstreamURL.Host, Path: "/oauth/2026-03/token"}
	}
	l.HubSpotScopes = strings.Join(strings.Fields(l.HubSpotScopes), " ")
	l.HubSpotOptionalScopes = strings.Join(strings.Fields(l.HubSpotOptionalScopes), " ")
	for i, id := range l.ServePortals {
		l.ServePortals[i] = strings.TrimSpace(id)
	}
	l.PortalDomain = plainHost(l.PortalDomain)
	if on, err := strconv.ParseBool(l.AccessLog); err == nil {
		l.AccessLog = strconv.FormatBool(on)
	}
	for i, host := range l.AllowedHosts {
		l.AllowedHosts[i] = plainHost(host)
	}
}

// plainHost returns a host name in lower case and without a final dot. Host names of
// requests are compared with this form.
func plainHost(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
}

// Misspelt returns the variables of environ that are not settings, although their names differ
// in one or two letters, or by a _FILE at the end, from that of a setting, each with that setting.
func Misspelt(environ []string) map[string]string {
	var names []string
	for _, s := range settings() {
		names = append(names, s.name)
		if s.secret {
			names = append(names, s.name+"_FILE")
		}
	}
	misspelt := make(map[string]string)
	for variable := range env.ToMap(environ) {
		near := slices.IndexFunc(names, func(name string) bool { return isNear(variable, name, 2) })
		if slices.Contains(names, variable) {
			continue
		}
		if near >= 0 {
			misspelt[variable] = names[near]
		} else if name, isFile := strings.CutSuffix(variable, "_FILE"); isFile && slices.Contains(names, name) {
			misspelt[variable] = name
		}
	}
	return misspelt
}

// isNear reports whether b results from a by inserting, deleting or replacing at most n letters.
func isNear(a, b string, n int) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	switch {
	case n == 0 || a == "" || b == "":
		return max(len(a), len(b)) <= n
	default:
		return isNear(a[1:], b, n-1) || isNear(a, b[1:], n-1) || isNear(a[1:], b[1:], n-1)
	}
}
