package config

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/caarlos0/env/v11"

	"hubspot-auth-proxy/tokens/secret"
)

// secretLimit is how many bytes a file of a NAME_FILE variable may have. The value of a
// file that has become larger is not used.
const secretLimit = 64 << 10

const shortenSecret = "write only the value into the file; the previous value stays in use"

// SecretFiles are the files that NAME_FILE variables name. They are read again when they
// change. SecretFiles is safe for concurrent use.
type SecretFiles struct {
	mu      sync.Mutex
	environ map[string]string // with NAME=value in place of NAME_FILE=path
	current Config
	files   []*secretFile
}

// A secretFile is the file of one setting.
type secretFile struct {
	*File
	setting  setting
	failures int // consecutive polls in which the file could not be read
}

// Files returns the files that secrets were read from. environ is the environment that was
// given to [Load]. Pipes and devices are left out, because they cannot be read repeatedly.
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
		s.files = append(s.files, &secretFile{File: &File{name: variable, path: path, limit: secretLimit, shorten: shortenSecret}, setting: setting})
	}
	return s
}

// Poll reads the files that have changed since the previous poll. It returns the current
// settings, the names of the settings whose values have changed, and the new faults. A new
// value takes effect when its file is the same in two polls. If a file has a fault, its
// previous value stays in use.
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

// with returns the settings with text as the value of f's setting, or the faults of that
// value.
func (s *SecretFiles) with(f *secretFile, text string) (Config, Faults) {
	trial := maps.Clone(s.environ)
	trial[f.setting.name] = text
	var environ []string
	for name, value := range trial {
		environ = append(environ, name+"="+value)
	}
	_, err := Load(environ)
	faults, _ := errors.AsType[Faults](err)
	// The faults of other settings, such as a file that is now missing, do not count.
	if own := slices.DeleteFunc(faults, func(fault Fault) bool { return fault.Name != f.setting.name }); len(own) > 0 {
		return Config{}, own
	}
	next := s.current
	reflect.ValueOf(&next).Elem().Field(f.setting.index).Set(reflect.ValueOf(secret.New(text)))
	return next, nil
}

// poll returns the text of the file, and whether the file has changed.
func (f *secretFile) poll() (text string, isNew bool, _ Faults) {
	content, isNew, faults := f.Changed()
	if faults != nil {
		// A file that is being replaced may be missing for a moment, so the first failure
		// is not reported.
		if f.failures++; f.failures != 2 {
			faults = nil
		}
		return "", false, faults
	}
	f.failures = 0
	text = withoutNewline(string(content))
	if isNew && text == "" {
		return "", false, Faults{{f.name, theFile(f.path) + " is empty", "write the value into the file; the previous value stays in use"}}
	}
	return text, isNew, nil
}

// Again polls twice, and calls pause between the two polls. Use Again when a new value
// is needed at once. Otherwise a new value takes effect after two regular polls.
func (s *SecretFiles) Again(pause func()) (current Config, changed []string, faults Faults) {
	_, first, one := s.Poll()
	if len(s.files) == 0 {
		return s.current, nil, nil
	}
	pause()
	current, second, two := s.Poll()
	return current, append(first, second...), append(one, two...)
}
