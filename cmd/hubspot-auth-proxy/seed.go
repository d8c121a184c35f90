package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
)

// lookEvery is how often the seed file is looked at. Kubernetes replaces a
// mounted Secret by renaming a symlink, which not every way of being notified
// notices.
const lookEvery = 2 * time.Second

// seeder applies the settings' portals and clients: at the start, when the
// seed file has changed, and when Redis has lost its data.
type seeder struct {
	settings config.Config
	source   *tokens.Source
	clients  *clients.Set
	log      *zap.Logger

	file    *config.File // the seed file; nil: there is none
	epoch   string       // Redis' life in which it was applied
	seed    config.Seed  // what the file has
	missing int          // looks at which the file could not be read, in a row

	// Why the seed file cannot be used as it is now: it cannot be read, or what
	// it has is faulty. Nil: it can.
	unreadable, faulty atomic.Pointer[string]
}

// fault returns why the seed file cannot be used as it is now, so that what was
// read before stays; empty if it can. It is safe for concurrent use.
func (s *seeder) fault() string {
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
func (s *seeder) read() error {
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
func (s *seeder) take(content []byte) error {
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
func (s *seeder) conflicts(seed config.Seed) config.Faults {
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

// apply applies what was read. A portal whose record cannot be used is told
// and left as it is; the error is Redis'.
func (s *seeder) apply(ctx context.Context) error {
	var known []clients.Client
	for _, c := range s.seed.Clients {
		known = append(known, seedClient(c))
	}
	s.clients.Seed(known)
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

// follow applies the seed file again when it has changed, and all of it when
// Redis has lost its data, until ctx ends.
func (s *seeder) follow(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for applied, told := true, false; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if content, changed := s.changed(); changed {
			if err := s.take(content); err != nil {
				s.log.Error("the seed file cannot be used; what was read before stays", zap.Error(err))
				s.faulty.Store(firstLine(err))
				continue
			}
			s.faulty.Store(nil)
			s.log.Info("the seed file has changed", zap.Int("portals", len(s.seed.Portals)), zap.Int("clients", len(s.seed.Clients)))
			applied = false
		}
		if applied && s.epoch == s.source.Epoch() {
			continue
		}
		err := s.apply(ctx)
		if err != nil && !told && ctx.Err() == nil {
			s.log.Warn("the settings' portals could not be stored; trying on", zap.Error(err))
		}
		applied, told = err == nil, err != nil
	}
}

// changed reports whether the file is another one than was read last, and has
// been for two looks. One that is missing may just be being replaced; if it still is, that is told.
func (s *seeder) changed() (content []byte, changed bool) {
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

// portals returns the portals of the environment and of the file.
func (s *seeder) portals() []tokens.Seed {
	var seeds []tokens.Seed
	if id := s.settings.HubSpotPortalID; id != "" {
		kind, value := credential(s.settings)
		seeds = append(seeds, tokens.Seed{Portal: id, Kind: kind, Secret: value})
	}
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
	client := clients.Client{Name: c.Name, Portals: c.Portals, ReadOnly: c.ReadOnly, Paths: c.Paths}
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

// faults reads the seed file and returns what is wrong with it.
func (s *seeder) faults() config.Faults {
	var faults config.Faults
	errors.As(s.read(), &faults)
	return faults
}
