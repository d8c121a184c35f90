package config

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/caarlos0/env/v11"

	"hubspot-auth-proxy/tokens/secret"
)

// secretLimit is how many bytes a file of a NAME_FILE variable may have to be read
// again.
const secretLimit = 64 << 10

// SecretFiles are the files that NAME_FILE variables name, read again when they
// change. It is safe for concurrent use.
type SecretFiles struct {
	mu      sync.Mutex
	environ map[string]string // with the values that are in use, in place of NAME_FILE
	current Config
	files   []*secretFile
}

// secretFile is one of them.
type secretFile struct {
	*File
	setting  setting
	variable string // NAME_FILE
	failures int    // polls in a row at which the file could not be read
}

// Files returns the files that the settings were read from. The environment is the
// one that was given to [Load]. What cannot be read more than once, such as a pipe,
// is not among them.
func (c Config) Files(environ []string) *SecretFiles {
	s := &SecretFiles{environ: env.ToMap(environ), current: c}
	value := reflect.ValueOf(c)
	for _, setting := range settings() {
		variable := setting.name + "_FILE"
		path := s.environ[variable]
		if !setting.secret || path == "" || notRegular(variable, path) != nil {
			continue
		}
		delete(s.environ, variable)
		s.environ[setting.name] = value.Field(setting.index).Interface().(secret.Text).Reveal()
		s.files = append(s.files, &secretFile{
			File: &File{name: variable, path: path, limit: secretLimit}, setting: setting, variable: variable,
		})
	}
	return s
}

// Poll reads the files that have changed since they were polled last. It returns
// the settings as they are now and the names of those whose values are others than
// before. A value counts once its file is the same in two polls. The faults are
// reported once each; where there is one, the value that was read before stays.
func (s *SecretFiles) Poll() (current Config, changed []string, faults Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		text, isNew, fault := f.poll()
		if fault != nil {
			faults = append(faults, fault...)
			continue
		}
		if !isNew || text == s.environ[f.setting.name] {
			continue
		}
		next, fault := s.with(f, text)
		if fault != nil {
			faults = append(faults, fault...)
			continue
		}
		s.current, s.environ[f.setting.name] = next, text
		changed = append(changed, f.setting.name)
	}
	return s.current, changed, faults
}

// with returns the settings with another value for one of them, or what is wrong
// with that value.
func (s *SecretFiles) with(f *secretFile, text string) (Config, Faults) {
	trial := maps.Clone(s.environ)
	trial[f.setting.name] = text
	var environ []string
	for name, value := range trial {
		environ = append(environ, name+"="+value)
	}
	_, err := Load(environ)
	var faults Faults
	errors.As(err, &faults)
	// A fault of another setting, such as a file that is missing now, is not this one's.
	if own := slices.DeleteFunc(faults, func(fault Fault) bool { return fault.Name != f.setting.name }); len(own) > 0 {
		return Config{}, own
	}
	next := s.current
	reflect.ValueOf(&next).Elem().Field(f.setting.index).Set(reflect.ValueOf(secret.New(text)))
	return next, nil
}

// poll returns the text of the file if that may be another one than before.
func (f *secretFile) poll() (text string, isNew bool, faults Faults) {
	content, isNew, err := f.Changed()
	if err != nil {
		// A file that is just being replaced may be missing for a moment.
		if f.failures++; f.failures == 2 {
			errors.As(err, &faults)
		}
		return "", false, faults
	}
	f.failures = 0
	text = withoutNewline(string(content))
	if isNew && text == "" {
		return "", false, Faults{{f.variable, "the file " + quotePath(f.path) + " is empty", "put the value into it: what was read before stays"}}
	}
	return text, isNew, nil
}

// Again polls the files until they are the same in two polls: for a value that is
// needed now.
func (s *SecretFiles) Again(pause func()) (current Config, changed []string, faults Faults) {
	_, first, one := s.Poll()
	if len(s.files) == 0 {
		return s.current, nil, nil
	}
	pause()
	current, second, two := s.Poll()
	return current, append(first, second...), append(one, two...)
}

// withoutNewline drops one line break at the end.
func withoutNewline(text string) string {
	text, cut := strings.CutSuffix(text, "\n")
	if cut {
		text = strings.TrimSuffix(text, "\r")
	}
	return text
}
