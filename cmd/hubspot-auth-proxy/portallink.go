package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/admin"
)

const portalLinkManual = `Prints a link to HubSpot's page on which a person connects a portal with the app.
It can be sent to that person, serves once, and ends after 7 days. HubSpot then
sends their browser to HUBSPOT_REDIRECT_URL, which must be /callback of a running
proxy with the same HUBSPOT_CLIENT_SECRET. No Redis is needed here.

  hubspot-auth-proxy portal link
  hubspot-auth-proxy portal link --portal 62515    # takes no other portal
`

func portalLink(flags *flag.FlagSet) action {
	portal := flags.String("portal", "", "connect the portal `ID` and no other")
	return func(_ context.Context, c *call) error {
		if *portal != "" {
			if _, err := portalID(*portal, "portal link"); err != nil {
				return err
			}
		}
		settings, err := config.Load(c.environ)
		if err != nil {
			return err
		}
		if faults := linkFaults(settings); faults != nil {
			return faults
		}
		state := admin.NewStates(settings.HubSpotClientSecret, time.Now).Sign(admin.State{Purpose: admin.PurposeLink, Portal: *portal})
		_, err = fmt.Fprintln(c.stdout, hubspotApp(settings).AuthorizeURL(settings.HubSpotAuthorizeURL.String(),
			settings.HubSpotRedirectURL.String(), settings.HubSpotScopes, settings.HubSpotOptionalScopes, state))
		return err
	}
}

// linkFaults returns what a link lacks.
func linkFaults(settings config.Config) error {
	var faults config.Faults
	need := func(name string, missing bool, remedy string) {
		if missing {
			faults = append(faults, config.Fault{Name: name, Problem: "is not set, but needed for a link", Remedy: remedy})
		}
	}
	need("HUBSPOT_CLIENT_ID", settings.HubSpotClientID == "", "set it to the HubSpot app's client id")
	need("HUBSPOT_CLIENT_SECRET", settings.HubSpotClientSecret.IsZero(), "set it to the HubSpot app's client secret")
	need("HUBSPOT_REDIRECT_URL", settings.HubSpotRedirectURL == nil, "set it to the address of /callback, as the HubSpot app's settings have it")
	need("HUBSPOT_SCOPES", settings.HubSpotScopes == "", "set it to the HubSpot app's scopes, separated by spaces")
	if faults == nil {
		return nil
	}
	return faults
}
