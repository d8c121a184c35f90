package config

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// A loader is a Config that is being read, with the faults found so far.
type loader struct {
	Config
	values  map[string]string // the text of each variable that is set; never empty
	sources map[string]string // where the text came from, even if it could not be read
	faults  Faults
}

func (l *loader) fault(name, problem, remedy string) {
	l.faults = append(l.faults, Fault{Name: name, Problem: problem, Remedy: remedy})
}

// given reports whether the operator set the variable, even to a faulty value. Such a
// variable is not reported as missing.
func (l *loader) given(name string) bool { return l.sources[name] != "" }

// require adds a fault for each variable of names that is not given, if at least one
// variable of reasons is given.
func (l *loader) require(names []string, reasons ...string) {
	reasons = slices.DeleteFunc(reasons, func(name string) bool { return !l.given(name) })
	if len(reasons) == 0 {
		return
	}
	for _, name := range names {
		if !l.given(name) {
			l.fault(name, "is not set, although required by "+list(reasons), "set it too, or unset "+list(reasons))
		}
	}
}

func list(names []string) string { return strings.Join(names, " and ") }

// readFile returns the text of the file at path, which the variable name gives, without one
// line break at its end. A file that is unreadable or empty is a fault.
func (l *loader) readFile(name, path string) (text string, ok bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		l.faults = append(l.faults, unreadable(name, path, err))
		return "", false
	}
	text = withoutNewline(string(content))
	if text == "" {
		l.fault(name, theFile(path)+" is empty", "write the value into the file, or unset "+name)
	}
	return text, text != ""
}

// withoutNewline drops one line break at the end.
func withoutNewline(text string) string {
	text, cut := strings.CutSuffix(text, "\n")
	if cut {
		text = strings.TrimSuffix(text, "\r")
	}
	return text
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

// The names of variables that more than one check uses.
const (
	certFile     = "TLS_CERT_FILE"
	keyFile      = "TLS_KEY_FILE"
	clientCAFile = "TLS_CLIENT_CA_FILE"
	caCertFile   = "INTERCEPT_CA_CERT_FILE"
	caKeyFile    = "INTERCEPT_CA_KEY_FILE"
	clientID     = "HUBSPOT_CLIENT_ID"
	clientSecret = "HUBSPOT_CLIENT_SECRET"
	portal       = "HUBSPOT_PORTAL_ID"
	accessToken  = "HUBSPOT_ACCESS_TOKEN"
	apiKey       = "HUBSPOT_API_KEY"
	refreshToken = "HUBSPOT_REFRESH_TOKEN"
	redirectURL  = "HUBSPOT_REDIRECT_URL"
	authorizeURL = "HUBSPOT_AUTHORIZE_URL"
	scopes       = "HUBSPOT_SCOPES"
	optScopes    = "HUBSPOT_OPTIONAL_SCOPES"
	marketplace  = "HUBSPOT_MARKETPLACE_INSTALL"
)
