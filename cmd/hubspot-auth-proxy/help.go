package main

import (
	"flag"
	"fmt"
	"io"
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

` + exitStatus

// help prints the overview, or the help about a command or a group of commands.
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
	return usageError{problem: "there is no command of that name"}
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
	_, err := fmt.Fprintf(stdout, "\n%s help %s COMMAND describes a command.\n\n%s", program, name, exitStatus)
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
	_ = table.Flush() // cannot fail, because the table is written into memory
	if lines.Len() > 0 {
		fmt.Fprintf(stdout, "Flags, before or after the arguments:\n\n%s\n", &lines)
	}
	_, err := io.WriteString(stdout, exitStatus)
	return err
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
