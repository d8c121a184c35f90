package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

const exitStatus = "Exit status: 0 done, 1 failed, 2 wrong use or wrong settings.\n"

const overview = `hubspot-auth-proxy forwards calls to api.hubapi.com, and adds the credential of
their portal. It renews the credentials before they expire.

Usage:

`

const overviewEnd = `
hubspot-auth-proxy help COMMAND describes a command, and so does COMMAND --help.
Settings are environment variables; hubspot-auth-proxy config prints all of them.

`

// help prints the overview, or the help about a command or a group of commands.
func help(words []string, stdout io.Writer) error {
	var text strings.Builder
	name := strings.Join(words, " ")
	members := group(name)
	i := slices.IndexFunc(allCommands(), func(cmd command) bool { return cmd.name == name })
	switch {
	case len(words) == 0, name == "help":
		text.WriteString(overview)
		writeSummaries(&text, allCommands())
		text.WriteString(overviewEnd)
	case len(members) > 0:
		writeGroup(&text, name, members)
	case i >= 0:
		writeManual(&text, allCommands()[i])
	default:
		return usageError{problem: "there is no command " + quoted(name)}
	}
	_, err := io.WriteString(stdout, text.String()+exitStatus)
	return err
}

func writeSummaries(text *strings.Builder, commands []command) {
	var rows [][]string
	for _, cmd := range commands {
		name := cmd.name
		if name == "serve" {
			name = "[serve]"
		}
		rows = append(rows, []string{"  " + program + " " + name, cmd.summary})
	}
	writeColumns(text, rows)
}

// writeColumns writes rows in columns.
func writeColumns(text *strings.Builder, rows [][]string) {
	table := tabwriter.NewWriter(text, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // cannot fail, because the text is in memory
}

func writeGroup(text *strings.Builder, name string, members []command) {
	text.WriteString("Usage:\n\n")
	for _, cmd := range members {
		fmt.Fprintf(text, "  %s\n", cmd.line())
	}
	fmt.Fprintf(text, "\n%s\n", groupManuals[name])
	writeSummaries(text, members)
	fmt.Fprintf(text, "\n%s help %s COMMAND describes a command.\n\n", program, name)
}

func writeManual(text *strings.Builder, cmd command) {
	fmt.Fprintf(text, "Usage:\n\n  %s\n\n%s\n", cmd.line(), cmd.manual)
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	cmd.open(flags)
	var rows [][]string
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		rows = append(rows, []string{"  " + strings.TrimSpace("--"+f.Name+" "+value), usage})
	})
	if rows != nil {
		text.WriteString("Flags, before or after the arguments:\n\n")
		writeColumns(text, rows)
		text.WriteString("\n")
	}
}

// line returns the command line of the command, with its arguments.
func (c command) line() string { return strings.TrimSpace(program + " " + c.name + " " + c.args) }

// groupManuals describe what the commands of a group have in common.
var groupManuals = map[string]string{
	"portal": `A portal is a HubSpot account, identified by its Hub ID, such as 62515. These commands
change the Redis that REDIS_URL names, or STATE_FILE. REDIS_PREFIX and ENCRYPTION_KEYS
must have the values that the proxy has. Running proxies apply changes at once. Secrets
are never printed, and never taken from an argument.
`,
	"client": `A client is a program that calls the proxy. It has a key, and may use some portals.
These commands change the Redis that REDIS_URL names, or STATE_FILE. Running proxies
apply changes at once. The clients of a SEED_FILE are changed in that file.
`,
	"ca": `Clients whose base URL cannot be changed use the proxy as their HTTPS proxy. They must
trust a CA of your own. Redis is not used.
`,
	"keys": `ENCRYPTION_KEYS seal the secrets in Redis. The first key seals; every key opens. To
replace a key while the proxies serve:

  1. hubspot-auth-proxy keys generate 2026b
  2. add the new key after the old one in ENCRYPTION_KEYS, and restart the proxies one
     after the other; they can now open what the new key seals
  3. move the new key to the first place, and restart the proxies; they now seal with it
  4. hubspot-auth-proxy keys rotate
  5. remove the old key from ENCRYPTION_KEYS, and restart the proxies
`,
}
