// Package seeding parses SEED_FILE, and applies the portals and clients of the settings: those
// of the environment and those of the file.
package seeding

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
)

// PollInterval is how often the seed file is polled. The file is polled because Kubernetes
// replaces a mounted Secret by renaming a symbolic link. File notifications can miss this.
const PollInterval = 2 * time.Second

// A Seeder applies the portals and clients of the settings: at the start, when the
// seed file has changed, and when Redis has lost its data. Only [Seeder.Fault] and
// [Seeder.SetEnvironment] are safe for concurrent use.
type Seeder struct {
	settings    config.Config
	environment atomic.Pointer[[]tokens.Seed] // the portal of the environment
	changedEnv  atomic.Bool                   // environment has changed since it was applied
	log         *zap.Logger
	source      *tokens.Source
	clients     *clients.Set

	file    *config.File // the seed file; nil means that there is none
	epoch   string       // the epoch of Redis in which the seed was applied
	seed    Seed         // the content of the file
	missing int          // consecutive polls in which the file could not be read

	// Why the seed file cannot be used: it cannot be read, or its content has a
	// fault. nil means that there is no such reason.
	unreadable, faulty atomic.Pointer[config.Faults]
}

// New reads the seed file, if the settings name one. environment has the portal of the
// environment. If there are faults, the Seeder must not be used.
func New(settings config.Config, environment []tokens.Seed, log *zap.Logger) (*Seeder, config.Faults) {
	s := &Seeder{settings: settings, log: log}
	s.environment.Store(&environment)
	if settings.SeedFile == "" {
		return s, nil
	}
	s.file = config.SeedFile(settings.SeedFile)
	content, faults := s.file.Read()
	if faults == nil {
		faults = s.take(content)
	}
	return s, faults
}

// SetEnvironment replaces the portal of the environment after its credential has changed.
// [Seeder.Follow] applies the change at its next poll. SetEnvironment is safe for
// concurrent use.
func (s *Seeder) SetEnvironment(seeds []tokens.Seed) {
	s.environment.Store(&seeds)
	s.changedEnv.Store(true)
}

// maxShown is the number of faults that Fault returns.
const maxShown = 10

// Fault returns why the seed file cannot be used, one fault on each line, or "" if the file
// can be used. After maxShown, Fault returns only the number of further ones; the log has
// all. While there is a fault, the file's previous content stays in use. Fault is safe for concurrent
// use.
func (s *Seeder) Fault() string {
	faults := cmp.Or(s.unreadable.Load(), s.faulty.Load())
	switch {
	case faults == nil:
		return ""
	case len(*faults) > maxShown:
		return fmt.Sprintf("%s\nThe log has %d more faults.", (*faults)[:maxShown].Error(), len(*faults)-maxShown)
	}
	return faults.Error()
}

// take parses the content of the seed file. If the content has faults, take returns
// them, and the previous seed stays in use.
func (s *Seeder) take(content []byte) config.Faults {
	seed, faults := Parse(content)
	if faults == nil {
		faults = s.conflicts(seed)
	}
	if faults == nil {
		s.seed = seed
		s.warnOfShortKeys()
	}
	return faults
}

func (s *Seeder) warnOfShortKeys() {
	if names := s.seed.ShortKeys; len(names) > 0 {
		s.log.Warn(fmt.Sprintf("clients of SEED_FILE have a key with fewer than %d characters after the prefix, which somebody may guess: replace it by the prefix and the output of openssl rand -hex 24", minKey),
			zap.Strings("clients", names))
	}
}

// conflicts returns a fault for each portal that both the seed and the environment name, and
// for each refresh token of a seed for which the environment has no app.
func (s *Seeder) conflicts(seed Seed) config.Faults {
	var faults config.Faults
	for _, portal := range seed.Portals {
		if portal.Portal == s.settings.HubSpotPortalID {
			faults = append(faults, config.Fault{Name: "HUBSPOT_PORTAL_ID", Problem: "names portal " + portal.Portal + ", and so does SEED_FILE", Remedy: "keep one of them"})
		}
		if portal.Kind == tokens.OAuth && s.settings.HubSpotClientID == "" {
			faults = append(faults, config.Fault{Name: "HUBSPOT_CLIENT_ID", Problem: "is not set, although required by the refresh token of portal " + portal.Portal + " in SEED_FILE", Remedy: "set it and HUBSPOT_CLIENT_SECRET"})
		}
	}
	return faults
}

// Provide gives the Seeder the source and the set of clients, which most other methods
// need. Provide also puts into use what needs no Redis: the clients of the file, and, until
// the source has joined Redis, the static credentials.
func (s *Seeder) Provide(source *tokens.Source, set *clients.Set) {
	s.source, s.clients = source, set
	s.source.Provide(s.portals())
	s.clients.Seed(s.seed.Clients)
}

// Refresh reads the seed file again. If the file or the environment has changed,
// Refresh puts the change into use as Provide does, without Redis.
func (s *Seeder) Refresh() {
	if s.readAgain() {
		s.Provide(s.source, s.clients)
	}
}

// Apply puts the clients into use, and stores the portals. A portal that cannot be stored
// is logged and skipped. Apply returns only errors of Redis. After an error Apply can be
// called again.
func (s *Seeder) Apply(ctx context.Context) error {
	s.clients.Seed(s.seed.Clients)
	epoch := s.source.Epoch()
	for _, seed := range s.portals() {
		_, err := s.source.Seed(ctx, seed)
		if tokens.IsRedisError(err) {
			return err
		}
		if err != nil {
			s.log.Error("a portal of the settings could not be stored; portal set replaces its record", zap.String("portal", seed.Portal), zap.Error(err))
		}
	}
	if epoch == "" { // the source had not read the epoch yet
		epoch = s.source.Epoch()
	}
	s.epoch = epoch
	return nil
}

// Follow polls the seed file until ctx ends, and calls Apply when the file or the environment
// has changed, and when Redis has lost its data. Call Apply before Follow. Follow calls poll
// before each poll of the seed file.
func (s *Seeder) Follow(ctx context.Context, poll func()) {
	ticker := time.NewTicker(PollInterval)
	defer ticker.Stop()
	for applied, logged := true, false; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		poll()
		if s.readAgain() {
			applied = false
		}
		if applied && s.epoch == s.source.Epoch() {
			continue
		}
		err := s.Apply(ctx)
		if err != nil && !logged && ctx.Err() == nil {
			s.log.Warn("the portals of the settings could not be stored; the proxy keeps trying", zap.Error(err))
		}
		applied, logged = err == nil, err != nil
	}
}

// readAgain reads the seed file if it has changed, and reports whether the seed or the
// environment's portal has changed.
func (s *Seeder) readAgain() bool {
	changedEnv := s.changedEnv.Swap(false)
	content, changed := s.changed()
	if !changed {
		return changedEnv
	}
	if faults := s.take(content); faults != nil {
		s.log.Error("the seed file cannot be used; its previous content stays in use", zap.Error(faults))
		s.faulty.Store(&faults)
		return changedEnv
	}
	s.faulty.Store(nil)
	s.log.Info("the seed file has changed", zap.Int("portals", len(s.seed.Portals)), zap.Int("clients", len(s.seed.Clients)))
	return true
}

// changed returns the content of the file if it has changed and was the same in two polls.
// A missing file is logged only if it is still missing at the next poll, because a file
// that is being replaced may be missing for a moment.
func (s *Seeder) changed() (content []byte, changed bool) {
	if s.file == nil {
		return nil, false
	}
	// A file that is still being written is not used: a truncated token must not replace
	// a working one, and a client must not lose its limits.
	content, changed, faults := s.file.Changed()
	if faults != nil {
		if s.missing++; s.missing == 2 {
			s.unreadable.Store(&faults)
			s.log.Error("the seed file cannot be read; its previous content stays in use", zap.Error(faults))
		}
		return nil, false
	}
	s.missing = 0
	s.unreadable.Store(nil)
	return content, changed
}

// Static reports whether the environment and the seed file have a static credential for every
// portal in the list.
func (s *Seeder) Static(portals []string) bool {
	static := make(map[string]bool)
	for _, seed := range s.portals() {
		static[seed.Portal] = seed.Kind != tokens.OAuth
	}
	return !slices.ContainsFunc(portals, func(portal string) bool { return !static[portal] })
}

// HasPortals reports whether the environment or the seed file has a portal.
func (s *Seeder) HasPortals() bool { return len(s.portals()) > 0 }

// portals returns the portals of the environment and of the file.
func (s *Seeder) portals() []tokens.Seed {
	return slices.Concat(*s.environment.Load(), s.seed.Portals)
}
