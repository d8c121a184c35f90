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

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	records "hubspot-auth-proxy/tokens/store"
)

const portalSetManual = `Stores the credential of portal ID. It replaces the portal's previous credential, and
also connects a portal that was removed. KIND is one of

  access_token    a private app's token or a service key (pat-na1-…)
  api_key         a developer API key
  refresh_token   the refresh token of an OAuth grant; to renew its access token, the
                  proxy needs HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET

The secret is read from standard input, or from the file that --file names. On a
terminal the command asks for it. One newline at its end is dropped. The secret is not
an argument, because other users can read the arguments of a process. The portal keeps
its name unless --name is given. A record that a newer version of this program has
written is replaced only with --force. If a running proxy could not use the secret,
because it has other ENCRYPTION_KEYS, the command stores nothing without --force.

  op read op://Private/hubspot/token | hubspot-auth-proxy portal set 62515 access_token
  hubspot-auth-proxy portal set 62515 refresh_token --name Acme --file ./token
  hubspot-auth-proxy portal check 62515
`

func portalSet(flags *flag.FlagSet) action {
	name := flags.String("name", "", "the portal's `NAME`, shown in lists")
	file := flags.String("file", "", "read the secret from the file `PATH`")
	force := flags.Bool("force", false, "also replace a record that a newer version of this program has written, and store a secret that a running proxy cannot use with its ENCRYPTION_KEYS")
	return func(ctx context.Context, c *call) error {
		id, err := portalID(c.args[0])
		if err != nil {
			return err
		}
		kind, known := seeding.Kinds[c.args[1]]
		switch {
		case !known:
			return usageError{problem: "KIND is not one of access_token, api_key, refresh_token; the secret itself is not an argument"}
		case !isName(*name):
			return usageError{problem: "the name has a character that is not printable, or more than 100 characters"}
		}
		return c.operate(ctx, func(s *store) error {
			return c.setPortal(ctx, s, tokens.Seed{Portal: id, Name: *name, Kind: kind}, *file, *force)
		})
	}
}

// setPortal reads the secret and stores the portal.
func (c *call) setPortal(ctx context.Context, s *store, seed tokens.Seed, file string, force bool) error {
	used, err := s.source.CheckKeys(ctx)
	_, unusable := errors.AsType[*tokens.KeyError](err)
	if err != nil && !(unusable && force) {
		return fmt.Errorf("nothing is stored: %w", err)
	}
	what := strings.ReplaceAll(c.args[1], "_", " ")
	seed.Secret, err = c.secret(ctx, what+" of portal "+seed.Portal, file)
	if err != nil {
		return err
	}
	if seed.Name == "" {
		former, err := s.source.Show(ctx, seed.Portal)
		if err != nil && !errors.Is(err, tokens.ErrNotConnected) {
			return err
		}
		seed.Name = former.Name
	}
	if !s.settings.Keys().Seals() {
		s.log.Warn("ENCRYPTION_KEYS is not set, or begins with plain: the secret is stored unsealed")
	}
	set := s.source.Set
	if force {
		set = s.source.Force
	}
	if err := set(ctx, seed, actor("portal set")); err != nil {
		return orForce(err)
	}
	_, err = fmt.Fprintf(c.stdout, "The %s of %s is stored%s; portal check %s asks HubSpot which portal it belongs to.\n",
		what, titled(seed.Portal, seed.Name), whenUsed(s.settings, used, unusable), seed.Portal)
	return err
}

// whenUsed returns when proxies use what a command has stored, as the end of a sentence. used means
// that a proxy uses the database, and unusable that one of the proxies has other keys.
func whenUsed(settings config.Config, used, unusable bool) string {
	switch {
	case unusable:
		return ", and each proxy uses it when it has the same ENCRYPTION_KEYS"
	case used:
		return ", and in use from now on"
	case settings.StateFile != "":
		return ", and in use when a proxy runs with this STATE_FILE; none runs now"
	}
	return ", and in use when a proxy runs with this REDIS_URL and REDIS_PREFIX; none runs now"
}

// isName reports whether text is empty or may be a portal's name.
func isName(text string) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= 100 &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

const portalListManual = `Lists the connected portals: the kind of the credential, its state, when the access
token expires and when it was last renewed. The states that need attention are "ended"
(HubSpot refuses the grant), "rejected" (HubSpot has answered 401 to three calls in a row
with the static credential) and "unusable" (the record cannot be read). "active" does not
mean that HubSpot accepts the credential now; portal check asks HubSpot.

  hubspot-auth-proxy portal list
  hubspot-auth-proxy portal list --json | jq -r '.[] | select(.state != "active") | .id'
`

func portalList(flags *flag.FlagSet) action {
	all := flags.Bool("all", false, "also list the portals that were removed")
	asJSON := flags.Bool("json", false, "print an array of objects")
	return func(ctx context.Context, c *call) error {
		return c.operate(ctx, func(s *store) error {
			portals, err := showAll(ctx, s.source, *all)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.stdout, portals)
			}
			if len(portals) == 0 {
				_, err := fmt.Fprintln(c.stderr, "No portal is connected; connect one with portal set or portal link.")
				return err
			}
			return printTable(c.stdout, portalRows(portals, time.Now()))
		})
	}
}

// showAll returns all portals, without their secrets. With removed it includes the portals
// that were removed.
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

const portalShowManual = `Prints what is known about portal ID, without its secrets: also why its credential
cannot be used, and what to do, if it cannot.

  hubspot-auth-proxy portal show 62515
  hubspot-auth-proxy portal show 62515 --json | jq -r .state
`

func portalShow(flags *flag.FlagSet) action {
	asJSON := flags.Bool("json", false, "print an object")
	return func(ctx context.Context, c *call) error {
		id, err := portalID(c.args[0])
		if err != nil {
			return err
		}
		return c.operate(ctx, func(s *store) error {
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

const portalRemoveManual = `Removes the credential of portal ID. Proxies answer 403 PORTAL_NOT_CONNECTED to its
calls at once. A renewal under way, or a seed, does not bring the portal back. To connect
it again, use portal set, portal link or the connect page.

Nothing changes at HubSpot: the app stays installed, and the tokens stay valid until
somebody revokes them there. With --revoke HubSpot first revokes the refresh token; if
that fails, nothing is removed. The access token stays valid for 30 minutes at most, and
the app stays installed. A static credential can be revoked only in HubSpot.

A record that a newer version of the program has written is removed only with --force.

  hubspot-auth-proxy portal remove 62515
  hubspot-auth-proxy portal remove 62515 --revoke
`

func portalRemove(flags *flag.FlagSet) action {
	revoke := flags.Bool("revoke", false, "revoke the refresh token at HubSpot first")
	force := flags.Bool("force", false, "remove a record that a newer version has written, too")
	return func(ctx context.Context, c *call) error {
		id, err := portalID(c.args[0])
		if err != nil {
			return err
		}
		if *revoke && *force {
			return usageError{problem: "give --revoke or --force: a record that needs --force cannot be read, so its token cannot be revoked"}
		}
		return c.removePortal(ctx, id, *revoke, *force)
	}
}

func (c *call) removePortal(ctx context.Context, id string, revoke, force bool) error {
	return c.operate(ctx, func(s *store) error {
		p, err := s.source.Show(ctx, id)
		if err == nil && p.State == tokens.Removed {
			err = tokens.ErrNotConnected
		}
		remove := s.source.Remove
		switch {
		case revoke:
			remove = s.source.Revoke
		case force:
			remove = s.source.ForceRemove
		}
		if err == nil {
			err = remove(ctx, id, actor("portal remove"))
		}
		switch {
		case errors.Is(err, tokens.ErrNotRevocable):
			return fmt.Errorf("nothing is removed: the credential of portal %s is static, and can be revoked only in HubSpot; revoke it there, and run portal remove without --revoke", id)
		case err != nil && revoke && !errors.Is(err, tokens.ErrNotConnected):
			return fmt.Errorf("nothing is removed; portal remove without --revoke removes the portal without revoking its grant: %w", err)
		case err != nil:
			return orForce(notConnected(id, err))
		}
		_, err = fmt.Fprintf(c.stdout, "%s is removed.\n", strings.Replace(titled(id, p.Name), "p", "P", 1))
		return err
	})
}

// orForce adds to an error about a record of a newer version that --force replaces it.
func orForce(err error) error {
	if newer := (*records.NewerError)(nil); errors.As(err, &newer) {
		return fmt.Errorf("%w, or give --force, after which the newer version finds this one's record", err)
	}
	return err
}
