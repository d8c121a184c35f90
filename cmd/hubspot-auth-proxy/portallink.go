package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/admin"
)

const portalLinkManual = `Prints a link to the HubSpot page on which a person connects a portal to the app. Send it
to that person. The link works once, for 7 days. It expires earlier if the portal is
removed, connected or set, or if Redis loses its data. HubSpot then sends the browser to
HUBSPOT_REDIRECT_URL, which must be /callback of a running proxy with the same
HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET. To make the link, Redis is not needed, and
the clock must be correct. The proxy uses Redis to know that the link was used.

  hubspot-auth-proxy portal link --portal 62515    # connects this portal only
  hubspot-auth-proxy portal link --any             # connects any portal, except one with a static token
`

func portalLink(flags *flag.FlagSet) action {
	portal := flags.String("portal", "", "connect only the portal `ID`")
	anyPortal := flags.Bool("any", false, "connect the portal that the person chooses, unless it has a static token")
	return func(_ context.Context, c *call) error {
		if *anyPortal == (*portal != "") {
			return usageError{problem: "give --portal ID, or --any, not both"}
		}
		if *portal != "" {
			if _, err := portalID(*portal); err != nil {
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

// linkFaults returns config.Faults with each setting that a link needs and that is not
// set. The result is nil if all are set.
func linkFaults(settings config.Config) error {
	var faults config.Faults
	need := func(name string, missing bool, remedy string) {
		if missing {
			faults = append(faults, config.Fault{Name: name, Problem: "is not set, although a link needs it", Remedy: remedy})
		}
	}
	need("HUBSPOT_CLIENT_ID", settings.HubSpotClientID == "", "set it to the HubSpot app's client id")
	need("HUBSPOT_CLIENT_SECRET", settings.HubSpotClientSecret.IsZero(), "set it to the HubSpot app's client secret")
	need("HUBSPOT_REDIRECT_URL", settings.HubSpotRedirectURL == nil, "set it to the address of /callback, exactly as in the HubSpot app's settings")
	need("HUBSPOT_SCOPES", settings.HubSpotScopes == "", "set it to the HubSpot app's scopes, separated by spaces")
	if faults == nil {
		return nil
	}
	return faults
}
