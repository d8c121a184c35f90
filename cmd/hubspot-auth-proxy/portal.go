package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
)

const portalSetManual = `Stores the credential of portal ID, in the place of whatever there is, also if
the portal was removed. KIND is one of

  access_token    a private app's token or a service key (pat-na1-…)
  api_key         a developer API key
  refresh_token   of an OAuth grant; the proxy renews its access token, and needs
                  HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET for that

The secret comes from standard input, or from the file that --file names, and is
asked for if standard input is a terminal. One newline at its end is dropped. It
is never an argument, because others can read those. A portal that has a name keeps
it unless --name gives another. A record that a newer version of the program has
written is replaced only with --force.

  op read op://Private/hubspot/token | hubspot-auth-proxy portal set 62515 access_token
  hubspot-auth-proxy portal set 62515 refresh_token --name Acme --file ./token
  hubspot-auth-proxy portal check 62515
`

// kinds are the credentials that portal set takes, by what HubSpot calls the
// secret.
var kinds = map[string]tokens.Kind{"access_token": tokens.AccessToken, "api_key": tokens.APIKey, "refresh_token": tokens.OAuth}

func portalSet(flags *flag.FlagSet) action {
	name := flags.String("name", "", "what people call the portal: `NAME`")
	file := flags.String("file", "", "read the secret from the file `PATH`")
	force := flags.Bool("force", false, "replace a record that a newer version has written, too")
	return func(ctx context.Context, c *call) error {
		const cmd = "portal set"
		id, err := portalID(c.args[0], cmd)
		if err != nil {
			return err
		}
		kind, known := kinds[c.args[1]]
		switch {
		case !known:
			return usageError{"KIND is none of access_token, api_key, refresh_token; the secret itself is never an argument", cmd}
		case !isName(*name):
			return usageError{"the name has characters that cannot be printed, or more than 100", cmd}
		}
		return c.operate(ctx, func(settings config.Config, s *store) error {
			if !settings.Keys().Seals() {
				s.log.Warn("ENCRYPTION_KEYS is not set, or begins with plain: the secret is stored in Redis as it is")
			}
			set := s.source.Set
			if *force {
				set = s.source.Force
			}
			return c.setPortal(ctx, s, tokens.Seed{Portal: id, Name: *name, Kind: kind}, c.args[1], *file, set)
		})
	}
}

func (c *call) setPortal(ctx context.Context, s *store, seed tokens.Seed, what, file string, set func(context.Context, tokens.Seed, string) error) error {
	value, err := c.secret(ctx, strings.ReplaceAll(what, "_", " ")+" of portal "+seed.Portal, file)
	if err != nil {
		return err
	}
	seed.Secret = value
	if seed.Name == "" {
		former, err := s.source.Show(ctx, seed.Portal)
		if err != nil && !errors.Is(err, tokens.ErrNotConnected) {
			return err
		}
		seed.Name = former.Name
	}
	if err := set(ctx, seed, actor("portal set")); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "The %s of %s is stored, and used from now on; portal check %s asks HubSpot whose it is.\n",
		strings.ReplaceAll(what, "_", " "), titled(seed.Portal, seed.Name), seed.Portal)
	return err
}

// isName reports whether text may be a portal's name, or is empty.
func isName(text string) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= 100 &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// titled names a portal for people.
func titled(id, name string) string {
	if name == "" {
		return "portal " + id
	}
	return fmt.Sprintf("portal %s (%s)", id, shown(name))
}

const portalListManual = `Lists the portals that have a record: their kind of credential, whether it can be
used ("ended": HubSpot refuses the grant; "rejected": HubSpot answers 401 to the
static credential; "unusable": the record does not open),
when the access token expires and when it was last renewed.

  hubspot-auth-proxy portal list
  hubspot-auth-proxy portal list --json | jq -r '.[] | select(.state != "active") | .id'
`

func portalList(flags *flag.FlagSet) action {
	all := flags.Bool("all", false, "list those that were removed, too")
	asJSON := flags.Bool("json", false, "print an array of objects")
	return func(ctx context.Context, c *call) error {
		return c.operate(ctx, func(_ config.Config, s *store) error {
			portals, err := showAll(ctx, s.source, *all)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.stdout, portals)
			}
			if len(portals) == 0 {
				_, err := fmt.Fprintln(c.stderr, "No portal is connected; portal set and portal link connect one.")
				return err
			}
			return printTable(c.stdout, portalRows(portals, time.Now()))
		})
	}
}

// showAll returns what may be known of all portals, of those that were removed
// too if asked.
func showAll(ctx context.Context, source *tokens.Source, removed bool) ([]tokens.Portal, error) {
	ids, err := source.Portals(ctx)
	if err != nil {
		return nil, err
	}
	portals := []tokens.Portal{}
	for _, id := range ids {
		p, err := source.Show(ctx, id)
		if errors.Is(err, tokens.ErrNotConnected) || err == nil && p.State == tokens.Removed && !removed {
			continue
		}
		if err != nil {
			return nil, err
		}
		p = inUTC(p)
		portals = append(portals, p)
	}
	return portals, nil
}

// inUTC returns the portal with its times in UTC.
func inUTC(p tokens.Portal) tokens.Portal {
	for _, t := range []*time.Time{&p.Expires, &p.Renewed, &p.EndedAt, &p.NextTry, &p.RejectedAt} {
		*t = t.UTC()
	}
	return p
}

func portalRows(portals []tokens.Portal, now time.Time) [][]string {
	rows := [][]string{{"ID", "NAME", "KIND", "STATE", "EXPIRES", "RENEWED"}}
	for _, p := range portals {
		rows = append(rows, []string{p.ID, p.Name, string(p.Kind), string(p.State), relative(p.Expires, now), relative(p.Renewed, now)})
	}
	return rows
}

const portalShowManual = `Tells what is known of portal ID, but for its secrets, and why it cannot be used,
if it cannot.

  hubspot-auth-proxy portal show 62515
  hubspot-auth-proxy portal show 62515 --json | jq -r .state
`

func portalShow(flags *flag.FlagSet) action {
	asJSON := flags.Bool("json", false, "print an object")
	return func(ctx context.Context, c *call) error {
		id, err := portalID(c.args[0], "portal show")
		if err != nil {
			return err
		}
		return c.operate(ctx, func(_ config.Config, s *store) error {
			p, err := s.source.Show(ctx, id)
			if err != nil {
				return notConnected(id, err)
			}
			p = inUTC(p)
			if *asJSON {
				return printJSON(c.stdout, p)
			}
			return printTable(c.stdout, portalDetails(p, time.Now()))
		})
	}
}

func portalDetails(p tokens.Portal, now time.Time) [][]string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return relative(t, now) + ", " + t.Format(time.RFC3339)
	}
	rows := [][]string{
		{"ID", p.ID}, {"Name", p.Name}, {"Kind", string(p.Kind)}, {"State", string(p.State)},
		{"Expires", at(p.Expires)}, {"Renewed", at(p.Renewed)},
	}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("App", p.App)
	add("Scopes", p.Scopes)
	add("Ended", at(p.EndedAt))
	add("Rejected", at(p.RejectedAt))
	add("Next try", at(p.NextTry))
	add("Problem", cmp.Or(p.Problem, p.Failure))
	add("Remedy", p.Remedy())
	return rows
}

const portalRemoveManual = `Removes the credential of portal ID; proxies answer 403 PORTAL_NOT_CONNECTED for
it at once. Neither a renewal under way nor the settings' seed brings it back:
portal set, portal link and the connect page do.

At HubSpot nothing changes: there the app stays installed, and a token stays valid
until somebody ends that. With --revoke HubSpot first revokes the refresh token; if
it does not, nothing is removed. An access token that was given lives on for 30
minutes at most, and the app stays installed. A static credential is ended in
HubSpot only.

  hubspot-auth-proxy portal remove 62515
  hubspot-auth-proxy portal remove 62515 --revoke
`

func portalRemove(flags *flag.FlagSet) action {
	revoke := flags.Bool("revoke", false, "revoke the refresh token at HubSpot first")
	return func(ctx context.Context, c *call) error {
		id, err := portalID(c.args[0], "portal remove")
		if err != nil {
			return err
		}
		return c.removePortal(ctx, id, *revoke)
	}
}

func (c *call) removePortal(ctx context.Context, id string, revoke bool) error {
	return c.operate(ctx, func(_ config.Config, s *store) error {
		p, err := s.source.Show(ctx, id)
		if err == nil && p.State == tokens.Removed {
			err = tokens.ErrNotConnected
		}
		remove := s.source.Remove
		if revoke {
			remove = s.source.Revoke
		}
		if err == nil {
			err = remove(ctx, id, actor("portal remove"))
		}
		switch {
		case errors.Is(err, tokens.ErrNotRevocable):
			return fmt.Errorf("nothing is removed: the credential of portal %s is static, and only a person can end it, in HubSpot; do that, and use portal remove without --revoke", id)
		case err != nil && revoke && !errors.Is(err, tokens.ErrNotConnected):
			return fmt.Errorf("nothing is removed; portal remove without --revoke removes the portal all the same: %w", err)
		case err != nil:
			return notConnected(id, err)
		}
		_, err = fmt.Fprintf(c.stdout, "%s is removed.\n", strings.Replace(titled(id, p.Name), "p", "P", 1))
		return err
	})
}
