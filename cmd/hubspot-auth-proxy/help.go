package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const program = "hubspot-auth-proxy"

const exitStatus = "Exit status: 0 done, 1 failed, 2 wrong use or wrong settings.\n"

const overview = `hubspot-auth-proxy forwards calls to api.hubapi.com, each with its portal's
own credential, which it renews before it expires.

Usage:

`

const overviewEnd = `
hubspot-auth-proxy help COMMAND tells more about one, as does COMMAND --help.
Settings come from the environment; hubspot-auth-proxy config prints them all.

` + exitStatus

// help prints the overview, or what there is to know about a command or a
// group of commands.
func help(words []string, stdout io.Writer) error {
	if len(words) == 0 {
		return printOverview(stdout)
	}
	name := strings.Join(words, " ")
	if members := group(name); len(members) > 0 {
		return printGroup(name, members, stdout)
	}
	for _, cmd := range allCommands() {
		if cmd.name == name {
			return printManual(cmd, stdout)
		}
	}
	return usageError{problem: "there is no help about that"}
}

func printOverview(stdout io.Writer) error {
	if _, err := io.WriteString(stdout, overview); err != nil {
		return err
	}
	if err := printSummaries(allCommands(), stdout); err != nil {
		return err
	}
	_, err := io.WriteString(stdout, overviewEnd)
	return err
}

func printSummaries(commands []command, w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, cmd := range commands {
		name := cmd.name
		if name == "serve" {
			name = "[serve]"
		}
		fmt.Fprintf(table, "  %s %s\t%s\n", program, name, cmd.summary)
	}
	return table.Flush()
}

func printGroup(name string, members []command, stdout io.Writer) error {
	if _, err := fmt.Fprintf(stdout, "Usage:\n\n"); err != nil {
		return err
	}
	for _, cmd := range members {
		fmt.Fprintf(stdout, "  %s\n", cmd.line())
	}
	fmt.Fprintf(stdout, "\n%s\n", groupManuals[name])
	if err := printSummaries(members, stdout); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "\n%s help %s COMMAND tells more about one.\n\n%s", program, name, exitStatus)
	return err
}

func printManual(cmd command, stdout io.Writer) error {
	if _, err := fmt.Fprintf(stdout, "Usage:\n\n  %s\n\n%s\n", cmd.line(), cmd.manual); err != nil {
		return err
	}
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	cmd.open(flags)
	var lines strings.Builder
	table := tabwriter.NewWriter(&lines, 0, 0, 3, ' ', 0)
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(table, "  %s\t%s\n", strings.TrimSpace("--"+f.Name+" "+value), usage)
	})
	_ = table.Flush() // into memory
	if lines.Len() > 0 {
		fmt.Fprintf(stdout, "Flags, before or after the arguments:\n\n%s\n", &lines)
	}
	_, err := io.WriteString(stdout, exitStatus)
	return err
}

// line returns how the command is called.
func (c command) line() string { return strings.TrimSpace(program + " " + c.name + " " + c.args) }

// groupManuals say what commands of a group have in common.
var groupManuals = map[string]string{
	"portal": `A portal is a HubSpot account, known by its Hub ID, such as 62515. These
commands work on the Redis that REDIS_URL names, with REDIS_PREFIX and
ENCRYPTION_KEYS as the proxy has them; proxies that run on it follow at once.
No secret is ever printed, or taken from an argument.
`,
	"client": `A client is a caller of the proxy: it has a key, and may use some portals. These
commands work on the Redis that REDIS_URL names; proxies that run on it follow
at once. Clients of a SEED_FILE are known to the proxies that read it only, and
are changed there.
`,
	"keys": `ENCRYPTION_KEYS seal the secrets in Redis: the first key seals, all of them open.
A key is exchanged while the proxies serve:

  1. hubspot-auth-proxy keys generate 2026b
  2. put the new key behind the old one in ENCRYPTION_KEYS, and restart all
     proxies, one after the other: they can open it
  3. put the new key first, and restart them again: they seal with it
  4. hubspot-auth-proxy keys rotate
  5. take the old key out of ENCRYPTION_KEYS, and restart them once more
`,
}
