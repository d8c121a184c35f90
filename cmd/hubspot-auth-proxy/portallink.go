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
It can be sent to that person, serves once, and ends after 7 days; or sooner, if
the portal is removed, connected or set, or Redis loses its data. HubSpot then
sends their browser to HUBSPOT_REDIRECT_URL, which must be /callback of a running
proxy with the same HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET. No Redis is
needed here, and a clock that is right.

  hubspot-auth-proxy portal link --portal 62515    # takes no other portal
  hubspot-auth-proxy portal link --any             # takes each, replaces no static token
`

func portalLink(flags *flag.FlagSet) action {
	portal := flags.String("portal", "", "connect the portal `ID` and no other")
	anyPortal := flags.Bool("any", false, "connect the portal that the person chooses, unless it has a static token")
	return func(_ context.Context, c *call) error {
		if *anyPortal == (*portal != "") {
			return usageError{"give --portal ID, or --any", "portal link"}
		}
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
		app, redirect := hubspotApp(settings), settings.HubSpotRedirectURL.String()
		state := admin.NewStates(app, redirect, time.Now).Sign(admin.State{Purpose: admin.PurposeLink, Portal: *portal})
		_, err = fmt.Fprintln(c.stdout, app.AuthorizeURL(settings.HubSpotAuthorizeURL.String(), redirect, settings.HubSpotScopes, settings.HubSpotOptionalScopes, state))
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
