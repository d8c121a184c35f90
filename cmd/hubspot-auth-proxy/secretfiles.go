package main

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
)

// pollSecrets makes what has changed in the files that NAME_FILE variables name
// take effect.
func (s *service) pollSecrets() { s.useSecrets(s.secrets.Poll()) }

// rereadSecret reads the file of the environment's static credential, which HubSpot
// has just rejected, and stores what it has.
func (s *service) rereadSecret(ctx context.Context, portal string) {
	if portal != s.settings.Default() && portal != s.settings.HubSpotPortalID {
		return
	}
	current, changed, faults := s.secrets.Again(func() {
		select {
		case <-ctx.Done():
		case <-time.After(writeTime):
		}
	})
	s.useSecrets(current, changed, faults)
	if len(changed) == 0 {
		return
	}
	for _, seed := range environmentSeeds(current) {
		if _, err := s.source.Seed(ctx, seed); err != nil {
			s.log.Warn("the credential of the environment's file is not stored yet", zap.String("portal", seed.Portal), zap.Error(err))
		}
	}
}

// writeTime is how long a file must stay the same to count as written to its end,
// where a value is needed now.
const writeTime = 50 * time.Millisecond

// useSecrets makes changed settings take effect.
func (s *service) useSecrets(current config.Config, changed []string, faults config.Faults) {
	for _, fault := range faults {
		s.log.Error("a file of the settings cannot be used; the value that was read before stays", zap.String("setting", fault.Name), zap.Error(fault))
	}
	for _, name := range changed {
		switch name {
		case "HUBSPOT_CLIENT_SECRET":
			s.app.SetSecret(current.HubSpotClientSecret)
			s.source.AppChanged()
		case "ENCRYPTION_KEYS":
			s.source.Opening(current.Keys())
		case "NOTIFY_URL":
			s.notices.SetURL(current.NotifyURL)
		case "ADMIN_PASSWORD":
			s.admin.SetPassword(current.AdminPassword)
		case "HUBSPOT_ACCESS_TOKEN", "HUBSPOT_API_KEY", "HUBSPOT_REFRESH_TOKEN":
			if local := localCredential(current); local != nil {
				s.source.SetLocal(local)
			}
			s.seeder.SetEnvironment(environmentSeeds(current))
		}
	}
	if i := slices.Index(changed, "REDIS_URL"); i >= 0 {
		s.log.Warn("the file of REDIS_URL has changed, which takes effect when the program is started again")
		changed = slices.Delete(slices.Clone(changed), i, i+1)
	}
	if len(changed) > 0 {
		s.log.Info("settings have changed, and take effect", zap.Strings("settings", changed))
	}
}
