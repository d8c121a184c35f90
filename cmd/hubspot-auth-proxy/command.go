package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A command is one of the program's commands.
type command struct {
	name        string // one or two words, such as "portal set"
	args        string // the arguments and flags, as the help shows them
	summary     string // half a line, for the overview
	manual      string // the text of help COMMAND
	least, most int    // number of arguments, without flags

	// open defines the command's flags, and returns the action that runs the command.
	open func(*flag.FlagSet) action
}

// An action runs a command after its flags have been parsed.
type action func(context.Context, *call) error

// A call is one run of a command: its input and its output.
type call struct {
	args           []string // without flags
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// flagless returns the open function of a command without flags.
func flagless(run action) func(*flag.FlagSet) action {
	return func(*flag.FlagSet) action { return run }
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
		return help(args[:1], stdout)
	}
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	do := cmd.open(flags)
	positional, err := parse(flags, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return help(strings.Fields(cmd.name), stdout)
	case err != nil:
		return usageError{flagProblem(err), cmd.name}
	case len(positional) < cmd.least || len(positional) > cmd.most:
		return usageError{cmd.countProblem(len(positional)), cmd.name}
	}
	return do(ctx, &call{positional, environ, stdin, stdout, stderr})
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

// group returns the commands whose name begins with the word.
func group(word string) []command {
	var members []command
	for _, cmd := range allCommands() {
		if strings.HasPrefix(cmd.name, word+" ") {
			members = append(members, cmd)
		}
	}
	return members
}

// parse parses flags before, between and after the arguments, and returns the arguments.
// Everything after -- is an argument.
func parse(flags *flag.FlagSet, args []string) (positional []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if len(rest) == 0 {
			return positional, nil
		}
		if read := len(args) - len(rest); read > 0 && args[read-1] == "--" {
			return append(positional, rest...), nil
		}
		positional, args = append(positional, rest[0]), rest[1:]
	}
}

// flagProblem returns what is wrong with a flag. flagProblem does not use the messages of
// package flag, because they quote values, which may be secrets.
func flagProblem(err error) string {
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
		return "there is no flag " + quoted("--"+name)
	}
	if name, lacks := strings.CutPrefix(err.Error(), "flag needs an argument: -"); lacks {
		return "--" + name + " needs a value"
	}
	return "a flag is malformed, or has a value that it does not accept"
}

// countProblem returns the text of the error for a wrong number of arguments.
func (c command) countProblem(given int) string {
	takes := "no arguments"
	if c.args != "" {
		takes = c.args
	}
	problem := fmt.Sprintf("%s takes %s, and was given %s", c.name, takes, count(given, "argument"))
	if c.name == "portal set" && given > c.most {
		problem += "; the secret is not an argument: give it on standard input or with --file"
	}
	return problem
}

var harmless = regexp.MustCompile(`^-{0,2}[a-z][a-z-]{0,19}$`)

// quoted returns a word of the command line in quotes, or "of that name" if the word may be
// a secret that was given in the wrong place. A word that is short and has only lower-case
// letters and dashes cannot be a secret.
func quoted(word string) string {
	if harmless.MatchString(word) {
		return fmt.Sprintf("%q", word)
	}
	return "of that name"
}

// A usageError is the error of a wrong command line.
type usageError struct {
	problem string
	help    string // the command whose help describes the usage; empty means the overview
}

func (e usageError) Error() string { return e.problem }
