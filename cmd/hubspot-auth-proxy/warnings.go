package main

import (
	"context"
	"slices"
	"strings"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
)

// warnOfStorage logs where data is kept, and warns about data that is not kept or not sealed.
func warnOfStorage(settings config.Config, log *zap.Logger) {
	if settings.StateFile != "" {
		log.Info("portals, tokens and client keys are kept in STATE_FILE", zap.String("file", settings.StateFile))
	}
	switch {
	case !commandsReach(settings) && settings.HubSpotClientID == "":
		log.Info("neither REDIS_URL nor STATE_FILE is set: everything is kept in memory only; portals and clients come from the settings, so that only counts of calls end with the process")
	case !commandsReach(settings):
		log.Warn("neither REDIS_URL nor STATE_FILE is set: portals that are connected, and renewed tokens, are in memory only, and are lost when the process ends")
	case !settings.Keys().Seals() && settings.StateFile != "":
		log.Warn("ENCRYPTION_KEYS is not set, or begins with plain: tokens are stored in STATE_FILE unsealed; keys generate makes a key")
	case !settings.Keys().Seals():
		log.Warn("ENCRYPTION_KEYS is not set, or begins with plain: tokens are stored in Redis unsealed; keys generate makes a key")
	}
}

// commandsReach reports whether commands can change the proxy's data.
func commandsReach(settings config.Config) bool {
	return !settings.RedisURL.IsZero() || settings.StateFile != ""
}

// warnOfNoPortal logs what to do if no portal has a credential.
func (s *service) warnOfNoPortal(ctx context.Context) {
	if _, value := credential(s.settings); !value.IsZero() || s.seeder.HasPortals() {
		return
	}
	ids, err := s.source.Portals(ctx)
	stored := func(id string) bool {
		p, err := s.source.Show(ctx, id)
		return err != nil || p.State != tokens.Removed
	}
	if err != nil || slices.ContainsFunc(ids, stored) {
		return
	}
	remedy := "set HUBSPOT_ACCESS_TOKEN, or HUBSPOT_PORTAL_ID and HUBSPOT_REFRESH_TOKEN, or SEED_FILE"
	if commandsReach(s.settings) {
		remedy += ", or use the command portal set"
	}
	if s.app != nil && s.settings.HubSpotRedirectURL != nil && s.settings.HubSpotScopes != "" {
		remedy += ", or connect a portal with the command portal link or at /connect of ADMIN_ADDR"
	}
	s.log.Warn("no portal has a credential, so calls are refused: " + remedy)
}

// warnOfNoClient logs what to do if clients need a key and no client has one.
func (s *service) warnOfNoClient() {
	if s.anonymous() || len(s.clientSet.All()) > 0 {
		return
	}
	remedy := "make a client with the command client add, or in SEED_FILE"
	if !commandsReach(s.settings) {
		remedy = "put clients into SEED_FILE, or set REDIS_URL or STATE_FILE and make a client with the command client add"
	}
	s.log.Warn("clients need a client key and there is no client, so all calls get 401: " + remedy +
		"; if everyone who can reach LISTEN_ADDR may use all portals, set ALLOW_ANONYMOUS=true")
}

// warnOfHosts warns of settings by which calls without a client key may name the proxy, and
// which have no effect on loopback.
func (s *service) warnOfHosts() {
	if !isLoopback(s.listener) {
		return
	}
	if len(s.settings.AllowedHosts) > 0 {
		s.log.Warn("ALLOWED_HOSTS has no effect, because LISTEN_ADDR is a loopback address: calls without a client key must name localhost or a loopback address")
	}
	if domain := s.portalDomain(); s.anonymous() && domain != "localhost" && !strings.HasSuffix(domain, ".localhost") {
		s.log.Warn("calls below PORTAL_DOMAIN need a client key, because LISTEN_ADDR is a loopback address: calls without a key must name localhost, a name below it, or a loopback address")
	}
}
