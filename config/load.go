package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"hubspot-auth-proxy/tokens/secret"
)

// Load reads the settings from environ, which is as [os.Environ] gives it, and
// from the files that it names. It looks at nothing else: not at the process's
// own environment. An error is [Faults], which tells all that is wrong.
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

// A loader is a Config on its way, and what is wrong with it so far.
type loader struct {
	Config
	values  map[string]string // what was given, by variable, as text; never empty
	sources map[string]string // where it came from, also if it could not be read
	faults  Faults
}

func (l *loader) fault(name, problem, remedy string) {
	l.faults = append(l.faults, Fault{Name: name, Problem: problem, Remedy: remedy})
}

// given tells whether the operator set the variable, be it to nonsense. A
// fault of the value is then told, and that it is missing is not.
func (l *loader) given(name string) bool { return l.sources[name] != "" }

// gather collects the text of every setting. Only these reach the parser.
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

// readFile returns the text of the file at path, which the variable name gives,
// without one line break at its end. A file that gives nothing is a fault.
func (l *loader) readFile(name, path string) (text string, ok bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		l.faults = append(l.faults, unreadable(name, path, err))
		return "", false
	}
	text = withoutNewline(string(content))
	if text == "" {
		l.fault(name, "the file "+quotePath(path)+" is empty", "put the value into it, or unset "+name)
	}
	return text, text != ""
}

// quotePath quotes only what begins like a path, because the commonest mistake
// with a variable that names a secret's file is to put the secret into it.
func quotePath(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") {
		return quote(path)
	}
	return "the file it names (not shown, as it begins with neither / nor . and may be the secret itself)"
}

// parse turns the texts into the fields of Config. What cannot be parsed is a
// fault, and then taken as unset, so that the checks find the default there
// and tell the same variable's fault but once.
func (l *loader) parse() {
	parsed, err := env.ParseAsWithOptions[Config](env.Options{Environment: l.values})
	var failed env.AggregateError
	if errors.As(err, &failed) {
		for _, err := range failed.Errors {
			l.refuse(err)
		}
		l.parse()
		return
	}
	l.Config = parsed
	l.Config.sources = l.sources
}

// refuse tells in our own words what env could not parse, for its words quote
// the value.
func (l *loader) refuse(err error) {
	var bad env.ParseError
	errors.As(err, &bad)
	field, _ := reflect.TypeFor[Config]().FieldByName(bad.Name)
	name := field.Tag.Get("env")
	value, set := l.values[name]
	if !set {
		panic(fmt.Sprintf("config: a tag of Config is wrong: %v", err)) // whatever the environment
	}
	delete(l.values, name)

	switch reflect.Zero(field.Type).Interface().(type) {
	case bool, *bool:
		l.fault(name, quote(value)+" is neither true nor false", "give one of them")
	case int64:
		l.fault(name, quote(value)+" is not a whole number, or too large", "give a number of bytes, such as 1048576")
	case *int:
		l.fault(name, quote(value)+" is not a whole number, or too large", "give a number such as 1000")
	case time.Duration:
		l.fault(name, quote(value)+" is not a duration", "give one with its unit, such as 30s or 5m")
	case *url.URL:
		l.fault(name, "is not a URL", "give one such as "+urlExample(name)) // not quoted: it may hold a password
	default:
		panic(fmt.Sprintf("config: no words for a wrong %v", field.Type))
	}
}

// complete sets the defaults that follow from other settings, and drops what
// the operator may write but nobody should have to mind.
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

// plainHost returns a host name as requests are compared with it.
func plainHost(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
}

// A setting is one field of Config that a variable sets.
type setting struct {
	name   string // of the variable
	index  int    // of the field
	secret bool
}

// settings returns all settings, in the order of Config's fields.
func settings() []setting {
	var all []setting
	config := reflect.TypeFor[Config]()
	for i := range config.NumField() {
		field := config.Field(i)
		if name := field.Tag.Get("env"); name != "" {
			all = append(all, setting{name: name, index: i, secret: field.Type == reflect.TypeFor[secret.Text]()})
		}
	}
	return all
}
