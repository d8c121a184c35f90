package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/clients"
)

const clientAddManual = `Makes a key for the client NAME, which may use the portals that --portals lists, and
prints the key on standard output, alone on its line. Only a hash of the key is stored,
so the key cannot be shown again. The client sends the key where an SDK puts its token,
as Authorization: Bearer KEY or hapikey=KEY.

  hubspot-auth-proxy client add billing --portals 62515,62516 --read-only
  hubspot-auth-proxy client add sync --portals 62515 --paths /crm/v3/objects/contacts,/crm/v3/owners --expires 2027-01-31
  hubspot-auth-proxy client add report --portals 62515 --read-only --daily-limit 50000
  KEY=$(hubspot-auth-proxy client add ops --portals '*')
  curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/crm/v3/objects/contacts
`

func clientAdd(flags *flag.FlagSet) action {
	portals := flags.String("portals", "", "the portals that the client may use: `IDs` separated by commas, or '*' for all")
	readOnly := flags.Bool("read-only", false, "allow only GET, HEAD and the POSTs of HubSpot's API that read")
	paths := flags.String("paths", "", "the paths that the client may use, including those below them: `PATHS` separated by commas; all if not given")
	until := expiryFlag(flags)
	daily := flags.Int64("daily-limit", 0, "the `NUMBER` of calls that the client may send on one day (UTC); no limit if not given")
	replace := flags.Bool("replace", false, "replace the key and the rights of an existing client; its previous keys end at once")
	return func(ctx context.Context, c *call) error {
		expires, problem := expiry(*until)
		if problem != "" {
			return usageError{problem: problem}
		}
		key := clients.NewKey()
		client := clients.Client{Name: c.args[0], KeySHA256: clients.Hash(key), ReadOnly: *readOnly, Paths: listOf(*paths), Portals: listOf(*portals), Expires: expires, DailyLimit: *daily}
		if problem := clientProblem(client); problem != "" {
			return usageError{problem: problem}
		}
		return c.operate(ctx, func(s *store) error {
			if err := storeClient(ctx, s, client, *replace); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(c.stdout, key.Reveal()); err != nil {
				return fmt.Errorf("the client is stored, and its key could not be printed; make another key with --replace: %w", err)
			}
			// An error does not concern the client, which is stored and has no sealed secrets.
			used, _ := s.source.CheckKeys(ctx)
			_, err := fmt.Fprintf(c.stderr, "This is the key of the client %s. It is not shown again. The client is stored%s.\n", client.Name, whenUsed(s.settings, used, false))
			return err
		})
	}
}

// listOf returns the elements of a comma-separated list, without the empty ones. The
// result is nil if there are none.
func listOf(text string) (list []string) {
	for element := range strings.SplitSeq(text, ",") {
		if element = strings.TrimSpace(element); element != "" {
			list = append(list, element)
		}
	}
	return list
}

// expiryFlag adds the flag --expires.
func expiryFlag(flags *flag.FlagSet) *string {
	return flags.String("expires", "", "the key expires at the end of this `DAY` (UTC), such as 2027-01-31, or at a time such as 2027-01-31T12:00:00Z; never if not given")
}

// expiry returns the time of the flag --expires, or what is wrong with the flag. The time
// is zero if the flag is not given.
func expiry(text string) (expires time.Time, problem string) {
	if text == "" {
		return time.Time{}, ""
	}
	expires, ok := clients.ParseExpiry(text)
	switch {
	case !ok:
		return time.Time{}, "--expires is neither a day nor a time: give a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z"
	case !expires.After(time.Now()):
		return time.Time{}, "--expires is in the past"
	}
	return expires, ""
}

// shownTime returns a time in UTC, or "" for the zero time.
func shownTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// clientProblem returns why a client cannot be added, or "" if the client can be added.
func clientProblem(client clients.Client) string {
	switch {
	case clients.IsKey(client.Name):
		return "NAME is a key: give a name"
	case len(client.Portals) == 0:
		return "--portals is missing: give ids separated by commas, or '*' for all"
	}
	if err := client.Check(); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

// storeClient stores a client, and logs the change. If replace is false and a client of
// that name exists, storeClient returns an error.
func storeClient(ctx context.Context, s *store, client clients.Client, replace bool) error {
	add := s.clients.Create
	if replace {
		add = s.clients.Add
	}
	err := add(ctx, client)
	if errors.Is(err, clients.ErrExists) {
		return fmt.Errorf("there is already a client %s; --replace replaces its key and rights at once, and client rotate gives it another key while the old one still works", client.Name)
	}
	if err == nil {
		paths := zap.Skip() // all
		if client.Paths != nil {
			paths = zap.Strings("paths", client.Paths)
		}
		s.log.Info("client was added", zap.String("client", client.Name), zap.Strings("portals", client.Portals),
			zap.Bool("read_only", client.ReadOnly), paths, zap.String("expires", shownTime(client.Expires)), zap.Int64("daily_limit", client.DailyLimit), by("client add"))
	}
	return err
}

const clientRotateManual = `Makes another key for the client NAME, with the same rights, and prints the key on
standard output, alone on its line. The previous keys work until the overlap has passed,
so that the client can change its key without an interruption. The proxy's log says
whether a previous key is still in use. The new key does not expire unless --expires is
given.

  hubspot-auth-proxy client rotate billing
  hubspot-auth-proxy client rotate billing --overlap 0        # the previous key ends at once
  hubspot-auth-proxy client rotate billing --overlap 168h --expires 2027-12-31
`

func clientRotate(flags *flag.FlagSet) action {
	overlap := flags.Duration("overlap", 24*time.Hour, "how long the previous keys still work: a `DURATION` such as 24h, or 0")
	until := expiryFlag(flags)
	return func(ctx context.Context, c *call) error {
		expires, problem := expiry(*until)
		if *overlap < 0 {
			problem = "--overlap is negative: give a duration such as 24h, or 0"
		}
		if problem != "" {
			return usageError{problem: problem}
		}
		return c.operate(ctx, func(s *store) error {
			key, now := clients.NewKey(), time.Now()
			client, err := s.clients.Rotate(ctx, c.args[0], key, expires, *overlap, now)
			if errors.Is(err, clients.ErrUnknown) {
				return errors.New("there is no client of that name; client list prints the names, and a client of a SEED_FILE gets another key in that file, in its list keys")
			}
			if err != nil {
				return err
			}
			s.log.Info("client was given another key", zap.String("client", client.Name), zap.Stringer("overlap", *overlap), zap.String("expires", shownTime(client.Expires)), by("client rotate"))
			if _, err := fmt.Fprintln(c.stdout, key.Reveal()); err != nil {
				return fmt.Errorf("the key is stored, and could not be printed; run client rotate again: %w", err)
			}
			ends := "ended"
			if len(client.OlderKeys) > 0 {
				ends = "work until " + shownTime(now.Add(*overlap)) + " at the latest"
			}
			_, err = fmt.Fprintf(c.stderr, "This is the new key of the client %s. It is not shown again. The previous keys %s.\n", client.Name, ends)
			return err
		})
	}
}

const clientListManual = `Lists the clients that client add has made, and what they may use. Keys and their
hashes are not shown.

  hubspot-auth-proxy client list
  hubspot-auth-proxy client list --json | jq -r '.[].name'
`

// listed is a client in the form in which the command client list prints clients.
type listed struct {
	Name     string   `json:"name"`
	Portals  []string `json:"portals"`
	ReadOnly bool     `json:"read_only"`
	Paths    []string `json:"paths,omitempty"`
	Expires  string   `json:"expires,omitempty"`
	Daily    int64    `json:"daily_limit,omitempty"`
	Keys     int      `json:"keys"` // the number of keys that have not expired
}

func clientList(flags *flag.FlagSet) action {
	asJSON := flags.Bool("json", false, "print an array of objects")
	return func(ctx context.Context, c *call) error {
		return c.operate(ctx, func(s *store) error {
			known, err := s.clients.List(ctx)
			if _, damaged := errors.AsType[*clients.DamagedError](err); err != nil && !damaged {
				return err
			}
			return errors.Join(c.printClients(known, *asJSON), err)
		})
	}
}

func (c *call) printClients(known []clients.Client, asJSON bool) error {
	if asJSON {
		list := make([]listed, 0, len(known))
		for _, client := range known {
			list = append(list, listed{client.Name, client.Portals, client.ReadOnly, client.Paths, shownTime(client.Expires), client.DailyLimit, client.Working(time.Now())})
		}
		return printJSON(c.stdout, list)
	}
	if len(known) == 0 {
		_, err := fmt.Fprintln(c.stderr, "There is no client; client add makes one.")
		return err
	}
	rows := [][]string{{"NAME", "PORTALS", "MAY", "PATHS", "DAILY LIMIT", "EXPIRES"}}
	for _, client := range known {
		may := "read and write"
		if client.ReadOnly {
			may = "read"
		}
		paths, limit, expires := "all", "none", "never"
		if client.Paths != nil {
			paths = strings.Join(client.Paths, ",")
		}
		if !client.Expires.IsZero() {
			expires = shownTime(client.Expires)
		}
		if client.DailyLimit > 0 {
			limit = strconv.FormatInt(client.DailyLimit, 10)
		}
		rows = append(rows, []string{client.Name, strings.Join(client.Portals, ","), may, paths, limit, expires})
	}
	return printTable(c.stdout, rows)
}

const clientRemoveManual = `Removes the client NAME: its keys stop working at once. A client of a SEED_FILE is
removed in that file.

  hubspot-auth-proxy client remove billing
`

func clientRemove(ctx context.Context, c *call) error {
	name := c.args[0]
	return c.operate(ctx, func(s *store) error {
		err := s.clients.Remove(ctx, name)
		if errors.Is(err, clients.ErrUnknown) {
			return errors.New("there is no client of that name; client list prints the names, and a client of a SEED_FILE is removed in that file")
		}
		if err != nil {
			return err
		}
		s.log.Info("client was removed", zap.String("client", name), by("client remove"))
		_, err = fmt.Fprintf(c.stdout, "The client %s is removed, and its keys do not work any more.\n", shown(name))
		return err
	})
}
