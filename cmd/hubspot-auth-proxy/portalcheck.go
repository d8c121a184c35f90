package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

const portalCheckManual = `Asks HubSpot which portal the credential of portal ID belongs to, or does so for all
portals, and prints the granted scopes, which HubSpot reports for OAuth grants and private
apps. An OAuth token that has expired is renewed first, and a grant that HubSpot has
refused is tried again. If a credential belongs to another portal, or HubSpot does not
accept it, the command prints what to do, and the exit status is 1.

With neither REDIS_URL nor STATE_FILE, the command checks HUBSPOT_ACCESS_TOKEN or
HUBSPOT_API_KEY of its own environment.

  hubspot-auth-proxy portal check 62515
  hubspot-auth-proxy portal check --all
  hubspot-auth-proxy portal check --all --json | jq '.[] | select(.ok | not)'
`

// checksAtOnce is how many portals are checked at the same time.
const checksAtOnce = 4

func portalCheck(flags *flag.FlagSet) action {
	all := flags.Bool("all", false, "check all portals")
	asJSON := flags.Bool("json", false, "print an object, or with --all an array of objects")
	return func(ctx context.Context, c *call) error {
		if *all == (len(c.args) == 1) {
			return usageError{problem: "give the id of a portal, or --all, not both"}
		}
		if !*all {
			if _, err := portalID(c.args[0]); err != nil {
				return err
			}
		}
		client := hubspot.NewClient(http.DefaultTransport, tokenTimeout)
		if settings, err := config.Load(c.environ); err == nil && checkedAlone(settings, c.args) {
			k := &checker{store: &store{settings: settings}, client: client}
			if *all {
				return c.report([]finding{k.checkEnvironment(ctx)}, *asJSON)
			}
			return c.reportOne(k.checkEnvironment(ctx), *asJSON)
		}
		return c.operate(ctx, func(s *store) error {
			k := &checker{store: s, client: client}
			if *all {
				return c.checkAll(ctx, k, *asJSON)
			}
			return c.reportOne(k.check(ctx, c.args[0]), *asJSON)
		})
	}
}

// checkedAlone reports whether the command checks the credential of the environment, because it
// cannot reach the data of the proxy. args are the ids to check; none means all portals. An OAuth
// grant is not checked in this way, because a new refresh token would be lost.
func checkedAlone(settings config.Config, args []string) bool {
	kind, value := credential(settings)
	return !commandsReach(settings) && kind != tokens.OAuth && !value.IsZero() &&
		(len(args) == 0 || args[0] == settings.HubSpotPortalID)
}

// reportOne prints the finding. If the credential is not right, reportOne returns an error.
func (c *call) reportOne(found finding, asJSON bool) error {
	if asJSON {
		if err := printJSON(c.stdout, found); err != nil {
			return err
		}
	} else if found.OK {
		_, err := fmt.Fprintln(c.stdout, found)
		return err
	}
	if !found.OK {
		return errors.New(found.String())
	}
	return nil
}

func (c *call) checkAll(ctx context.Context, k *checker, asJSON bool) error {
	portals, err := showAll(ctx, k.source, false)
	if err != nil {
		return err
	}
	found, err := k.checkEach(ctx, portals, c.stderr)
	if err != nil {
		return err
	}
	return c.report(found, asJSON)
}

// report prints the findings. If a credential is not right, report returns an error.
func (c *call) report(found []finding, asJSON bool) error {
	bad := 0
	for _, f := range found {
		if !f.OK {
			bad++
		}
	}
	if asJSON {
		if err := printJSON(c.stdout, found); err != nil {
			return err
		}
	} else {
		for _, f := range found {
			fmt.Fprintln(c.stdout, f)
		}
		fmt.Fprintf(c.stdout, "%s: %d right, %d not.\n", count(len(found), "portal"), len(found)-bad, bad)
	}
	if bad > 0 {
		verb := "need"
		if bad == 1 {
			verb = "needs"
		}
		return fmt.Errorf("%d of %s %s attention", bad, count(len(found), "portal"), verb)
	}
	return nil
}

// checkEach checks the portals, a few at a time. After a failure of one portal, checkEach
// continues with the others.
func (k *checker) checkEach(ctx context.Context, portals []tokens.Portal, stderr io.Writer) ([]finding, error) {
	found := make([]finding, len(portals))
	step, end := progress(stderr, len(portals), "checking portals")
	defer end()
	var checks errgroup.Group
	checks.SetLimit(checksAtOnce)
	for i, p := range portals {
		checks.Go(func() error {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			found[i] = k.check(ctx, p.ID)
			step()
			return nil
		})
	}
	return found, checks.Wait()
}
