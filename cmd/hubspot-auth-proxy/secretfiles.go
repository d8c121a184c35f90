package main

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
)

// pollSecrets polls the files that NAME_FILE variables name, and applies changed values.
func (s *service) pollSecrets() { s.useSecrets(s.secrets.Poll()) }

// rereadSecret reads the file of the environment's static credential again, after HubSpot has
// rejected the credential of portal, and stores a changed value.
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
			s.log.Warn("the credential in the file could not be stored yet", zap.String("portal", seed.Portal), zap.Error(err))
		}
	}
}

// writeTime is how long a file must stay the same to count as completely written. It is
// used when the value is needed at once; regular polls wait longer.
const writeTime = 50 * time.Millisecond

// useSecrets applies changed settings, and logs faults.
func (s *service) useSecrets(current config.Config, changed []string, faults config.Faults) {
	for _, fault := range faults {
		s.log.Error("the file of a setting cannot be used; the previous value stays in use", zap.String("setting", fault.Name), zap.Error(fault))
	}
	for _, name := range changed {
		switch name {
		case "HUBSPOT_CLIENT_SECRET":
			s.app.SetSecret(current.HubSpotClientSecret)
			s.source.AppChanged()
		case "ENCRYPTION_KEYS":
			s.source.Opening(current.Keys())
		case "NOTIFY_URL":
			s.notifier.SetURL(current.NotifyURL)
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
		s.log.Warn("the file of REDIS_URL has changed; restart the program to apply the change")
		changed = slices.Delete(slices.Clone(changed), i, i+1)
	}
	if len(changed) > 0 {
		s.log.Info("settings have changed, and are in effect", zap.Strings("settings", changed))
	}
}
