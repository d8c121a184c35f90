// Package seeding stores the portals and client keys that the operator's settings
// name: those of the environment and of SEED_FILE.
package seeding

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
)

// PollInterval is how often the seed file is polled. Kubernetes replaces a mounted
// Secret by renaming a symbolic link, which not every kind of notification notices.
const PollInterval = 2 * time.Second

// A Seeder applies the portals and clients of the settings: at the start, when the
// seed file has changed, and when Redis has lost its data. Only [Seeder.Fault] and
// [Seeder.SetEnvironment] are safe for concurrent use.
type Seeder struct {
	settings    config.Config
	environment atomic.Pointer[[]tokens.Seed] // the portal that the environment names
	changedEnv  atomic.Bool                   // environment is another one than was applied
	log         *zap.Logger
	source      *tokens.Source
	clients     *clients.Set

	file    *config.File // the seed file; nil means that there is none
	epoch   string       // of Redis, in which the seed was applied
	seed    config.Seed  // what the file has
	missing int          // polls in a row at which the file could not be read

	// Why the seed file cannot be used as it is now: it cannot be read, or what
	// it has is faulty. nil means that it can be used.
	unreadable, faulty atomic.Pointer[string]
}

// New reads the seed file of the settings, if they name one, and returns all that
// is wrong with it: no seeder can be used then. environment has the portals that
// the environment names.
func New(settings config.Config, environment []tokens.Seed, log *zap.Logger) (*Seeder, config.Faults) {
	s := &Seeder{settings: settings, log: log}
	s.environment.Store(&environment)
	var faults config.Faults
	errors.As(s.read(), &faults)
	return s, faults
}

// SetEnvironment replaces the portal that the environment names, whose credential
// has changed. It is safe for concurrent use.
func (s *Seeder) SetEnvironment(seeds []tokens.Seed) {
	s.environment.Store(&seeds)
	s.changedEnv.Store(true)
}

// Fault returns why the seed file cannot be used as it is now, so that what was
// read before stays in use; empty means that the file can be used. It is safe for
// concurrent use.
func (s *Seeder) Fault() string {
	for _, fault := range []*string{s.unreadable.Load(), s.faulty.Load()} {
		if fault != nil {
			return *fault
		}
	}
	return ""
}

// firstLine returns the first fault of an error that has several.
func firstLine(err error) *string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return &first
}

// read reads the seed file, if there is one. Its faults are config.Faults.
func (s *Seeder) read() error {
	if s.settings.SeedFile == "" {
		return nil
	}
	s.file = config.SeedFile(s.settings.SeedFile)
	content, err := s.file.Read()
	if err != nil {
		return err
	}
	return s.take(content)
}

// take takes in what the seed file has, unless that is faulty.
func (s *Seeder) take(content []byte) error {
	seed, err := config.ParseSeed(content)
	if err != nil {
		return err
	}
	if faults := s.conflicts(seed); faults != nil {
		return faults
	}
	s.seed = seed
	return nil
}

// conflicts returns what the file and the environment say twice, and what the
// file needs that the environment has not.
func (s *Seeder) conflicts(seed config.Seed) config.Faults {
	var faults config.Faults
	for _, portal := range seed.Portals {
		if portal.ID == s.settings.HubSpotPortalID {
			faults = append(faults, config.Fault{Name: "HUBSPOT_PORTAL_ID", Problem: "names portal " + portal.ID + ", and so does SEED_FILE", Remedy: "keep one of them"})
		}
		if !portal.RefreshToken.IsZero() && s.settings.HubSpotClientID == "" {
			faults = append(faults, config.Fault{Name: "HUBSPOT_CLIENT_ID", Problem: "is not set, but needed for the refresh token of portal " + portal.ID + " in SEED_FILE", Remedy: "set it and HUBSPOT_CLIENT_SECRET"})
		}
	}
	return faults
}

// Provide makes what was read serve as far as that needs no Redis: clients, and
// static credentials until the source has joined. The source and the clients are
// those of all other methods.
func (s *Seeder) Provide(source *tokens.Source, set *clients.Set) {
	s.source, s.clients = source, set
	s.source.Provide(s.portals())
	s.seedClients()
}

// Refresh does the same once more if the seed file has changed.
func (s *Seeder) Refresh() {
	if s.readAgain() {
		s.Provide(s.source, s.clients)
	}
}

func (s *Seeder) seedClients() {
	var known []clients.Client
	for _, c := range s.seed.Clients {
		known = append(known, seedClient(c))
	}
	s.clients.Seed(known)
}

// Apply stores the portals that were read. A portal whose record cannot be used is
// logged and left as it is. The error is one of Redis.
func (s *Seeder) Apply(ctx context.Context) error {
	s.seedClients()
	epoch := s.source.Epoch()
	for _, seed := range s.portals() {
		_, err := s.source.Seed(ctx, seed)
		if tokens.IsRedisError(err) {
			return err
		}
		if err != nil {
			s.log.Error("a portal of the settings is not stored; portal set replaces what is there", zap.String("portal", seed.Portal), zap.Error(err))
		}
	}
	if epoch == "" { // Redis had not been asked yet
		epoch = s.source.Epoch()
	}
	s.epoch = epoch
	return nil
}

// Follow applies the seed file again when it has changed, and all of it when Redis
// has lost its data, until ctx ends. Apply comes first. Poll is called as often as
// the seed file is polled, before it.
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
			s.log.Warn("the settings' portals could not be stored; trying on", zap.Error(err))
		}
		applied, logged = err == nil, err != nil
	}
}

// readAgain takes in what the seed file has, and reports whether that or the
// environment's portal is something else than before.
func (s *Seeder) readAgain() bool {
	changedEnv := s.changedEnv.Swap(false)
	content, changed := s.changed()
	if !changed {
		return changedEnv
	}
	if err := s.take(content); err != nil {
		s.log.Error("the seed file cannot be used; what was read before stays", zap.Error(err))
		s.faulty.Store(firstLine(err))
		return changedEnv
	}
	s.faulty.Store(nil)
	s.log.Info("the seed file has changed", zap.Int("portals", len(s.seed.Portals)), zap.Int("clients", len(s.seed.Clients)))
	return true
}

// changed reports whether the file is another one than was read last, and was the
// same in two polls. A missing file may just be being replaced; if it is still
// missing at the next poll, that is logged.
func (s *Seeder) changed() (content []byte, changed bool) {
	if s.file == nil {
		return nil, false
	}
	// One that is just being written is not finished: a token that was cut
	// short must not displace one that works, nor a client's limits be lost.
	content, changed, err := s.file.Changed()
	if err != nil {
		if s.missing++; s.missing == 2 {
			s.unreadable.Store(firstLine(err))
			s.log.Error("the seed file cannot be read; what was read before stays, clients too", zap.Error(err))
		}
		return nil, false
	}
	s.missing = 0
	s.unreadable.Store(nil)
	return content, changed
}

// Static reports whether every portal in the list has a static credential in what
// was read.
func (s *Seeder) Static(portals []string) bool {
	static := make(map[string]bool)
	for _, seed := range s.portals() {
		static[seed.Portal] = seed.Kind != tokens.OAuth
	}
	return !slices.ContainsFunc(portals, func(portal string) bool { return !static[portal] })
}

// portals returns the portals of the environment and of the file.
func (s *Seeder) portals() []tokens.Seed {
	seeds := slices.Clone(*s.environment.Load())
	for _, p := range s.seed.Portals {
		seed := tokens.Seed{Portal: p.ID, Name: p.Name, Kind: tokens.OAuth, Secret: p.RefreshToken}
		switch {
		case !p.AccessToken.IsZero():
			seed.Kind, seed.Secret = tokens.AccessToken, p.AccessToken
		case !p.APIKey.IsZero():
			seed.Kind, seed.Secret = tokens.APIKey, p.APIKey
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

func seedClient(c config.SeedClient) clients.Client {
	client := clients.Client{Name: c.Name, Portals: c.Portals, ReadOnly: c.ReadOnly, Paths: c.Paths, DailyLimit: c.DailyLimit}
	for i, k := range c.Keys {
		key := clients.Key{SHA256: k.SHA256, Expires: k.Expires}
		if key.SHA256 == "" {
			key.SHA256 = clients.Hash(k.Key)
		}
		if i == 0 {
			client.KeySHA256, client.Expires = key.SHA256, key.Expires
			continue
		}
		client.OlderKeys = append(client.OlderKeys, key)
	}
	return client
}
