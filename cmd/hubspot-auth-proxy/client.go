package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/clients"
)

const clientAddManual = `Makes a key for the caller NAME, who may use the portals that --portals names, and
prints it on standard output, alone on its line. It is not kept, only its hash:
it cannot be shown again. The caller sends it where an SDK puts its token, as
Authorization: Bearer KEY or hapikey=KEY.

  hubspot-auth-proxy client add billing --portals 62515,62516 --read-only
  KEY=$(hubspot-auth-proxy client add ops --portals '*')
  curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/crm/v3/objects/contacts
`

func clientAdd(flags *flag.FlagSet) action {
	portals := flags.String("portals", "", "which portals it may use: `IDs` with commas between them, or '*' for all")
	readOnly := flags.Bool("read-only", false, "allow GET, HEAD and HubSpot's POSTs that only read")
	replace := flags.Bool("replace", false, "give a caller that there is another key and other rights; its key so far ends")
	return func(ctx context.Context, c *call) error {
		key := clients.NewKey()
		client := clients.Client{Name: c.args[0], KeySHA256: clients.Hash(key), ReadOnly: *readOnly}
		for id := range strings.SplitSeq(*portals, ",") {
			if id = strings.TrimSpace(id); id != "" {
				client.Portals = append(client.Portals, id)
			}
		}
		if problem := clientProblem(client); problem != "" {
			return usageError{problem, "client add"}
		}
		return c.operate(ctx, func(_ config.Config, s *store) error {
			if err := storeClient(ctx, s, client, *replace); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(c.stdout, key.Reveal()); err != nil {
				return fmt.Errorf("the key could not be printed, make another one with --replace: %w", err)
			}
			_, err := fmt.Fprintf(c.stderr, "This is the key of the client %s. It is not shown again.\n", client.Name)
			return err
		})
	}
}

// clientProblem says what keeps a client from being added.
func clientProblem(client clients.Client) string {
	switch {
	case clients.IsKey(client.Name):
		return "that is a key: give a name"
	case len(client.Portals) == 0:
		return "--portals is missing: give ids with commas between them, or '*' for all"
	}
	if err := client.Check(); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

func storeClient(ctx context.Context, s *store, client clients.Client, replace bool) error {
	add := s.clients.Create
	if replace {
		add = s.clients.Add
	}
	err := add(ctx, client)
	if errors.Is(err, clients.ErrExists) {
		return fmt.Errorf("there is a client %s already; --replace gives it another key, and ends the one it has", client.Name)
	}
	if err == nil {
		s.log.Info("client was added", zap.String("client", client.Name), zap.Strings("portals", client.Portals),
			zap.Bool("read_only", client.ReadOnly), by("client add"))
	}
	return err
}

const clientListManual = `Lists the callers that client add has made, and what they may use. Neither keys nor
their hashes are shown.

  hubspot-auth-proxy client list
  hubspot-auth-proxy client list --json | jq -r '.[].name'
`

// listed is what client list tells of a client.
type listed struct {
	Name     string   `json:"name"`
	Portals  []string `json:"portals"`
	ReadOnly bool     `json:"read_only"`
}

func clientList(flags *flag.FlagSet) action {
	asJSON := flags.Bool("json", false, "print an array of objects")
	return func(ctx context.Context, c *call) error {
		return c.operate(ctx, func(_ config.Config, s *store) error {
			known, err := s.clients.List(ctx)
			if damaged := (*clients.DamagedError)(nil); err != nil && !errors.As(err, &damaged) {
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
			list = append(list, listed{client.Name, client.Portals, client.ReadOnly})
		}
		return printJSON(c.stdout, list)
	}
	if len(known) == 0 {
		_, err := fmt.Fprintln(c.stderr, "There is no client in Redis; client add makes one.")
		return err
	}
	rows := [][]string{{"NAME", "PORTALS", "MAY"}}
	for _, client := range known {
		may := "read and write"
		if client.ReadOnly {
			may = "read"
		}
		rows = append(rows, []string{client.Name, strings.Join(client.Portals, ","), may})
	}
	return printTable(c.stdout, rows)
}

const clientRemoveManual = `Cuts the caller NAME off: its key is unknown at once. A client of a SEED_FILE is
removed there.

  hubspot-auth-proxy client remove billing
`

func clientRemove(ctx context.Context, c *call) error {
	name := c.args[0]
	return c.operate(ctx, func(_ config.Config, s *store) error {
		err := s.clients.Remove(ctx, name)
		if errors.Is(err, clients.ErrUnknown) {
			return errors.New("there is no client of that name in Redis; client list names them, and those of a SEED_FILE are removed there")
		}
		if err != nil {
			return err
		}
		s.log.Info("client was removed", zap.String("client", name), by("client remove"))
		_, err = fmt.Fprintf(c.stdout, "The client %s is removed, and its key unknown from now on.\n", shown(name))
		return err
	})
}
