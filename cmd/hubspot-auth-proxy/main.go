// Command hubspot-auth-proxy is an authenticating reverse proxy in front of
// api.hubapi.com.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"hubspot-auth-proxy/config"
)

func main() {
	// net/http logs unsolicited answers of a server with the standard logger, and has no
	// setting for another logger. Such an answer may contain a secret.
	log.SetOutput(io.Discard)
	// The first signal starts an orderly shutdown. The second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	os.Exit(status(err, os.Stderr))
}

// run runs the command that args name, until the command is done or ctx ends.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 && slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		return help(args[1:], stdout)
	}
	if slices.Equal(args, []string{"--version"}) {
		args = []string{"version"}
	}
	cmd, rest, err := find(args)
	if errors.Is(err, flag.ErrHelp) {
		return help(slices.Concat(args[:1], args[2:]), stdout)
	}
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	do := cmd.open(flags)
	positional, err := parse(flags, rest)
	empty := emptyFlag(flags)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return help(strings.Fields(cmd.name), stdout)
	case err != nil:
		err = usageError{problem: flagProblem(flags, err)}
	case empty != "":
		err = usageError{problem: lacksValue(empty)}
	case len(positional) < cmd.least || len(positional) > cmd.most:
		err = usageError{problem: cmd.countProblem(len(positional))}
	default:
		err = do(ctx, &call{positional, environ, stdin, stdout, stderr})
	}
	if wrongUse, ok := errors.AsType[usageError](err); ok {
		wrongUse.help = cmd.name
		return wrongUse
	}
	return err
}

// find returns the command that the arguments name, and the arguments after its name. The
// error is flag.ErrHelp if the arguments ask for help about a group of commands.
func find(args []string) (cmd command, rest []string, err error) {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	for _, cmd := range allCommands() {
		words := strings.Fields(cmd.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return cmd, args[len(words):], nil
		}
	}
	members := group(args[0])
	switch {
	case len(members) == 0:
		return command{}, nil, usageError{problem: "there is no command " + quoted(args[0])}
	case len(args) > 1 && slices.Contains([]string{"help", "-h", "-help", "--help"}, args[1]):
		return command{}, nil, flag.ErrHelp
	}
	var names []string
	for _, member := range members {
		names = append(names, strings.TrimPrefix(member.name, args[0]+" "))
	}
	return command{}, nil, usageError{args[0] + " is followed by one of " + strings.Join(names, ", "), args[0]}
}

// status prints err, and returns the exit status for it.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if faults, ok := errors.AsType[config.Faults](err); ok {
		fmt.Fprintln(stderr, faults)
		return 2
	}
	if wrongUse, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintln(stderr, strings.TrimSpace(fmt.Sprintf("%s: %s; see %s help %s", program, wrongUse.problem, program, wrongUse.help)))
		return 2
	}
	fmt.Fprintf(stderr, "%s: %v\n", program, err)
	return 1
}
