package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

const program = "hubspot-auth-proxy"

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
func flagProblem(flags *flag.FlagSet, err error) string {
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
		return "there is no flag " + quoted("--"+name)
	}
	if name, lacks := strings.CutPrefix(err.Error(), "flag needs an argument: -"); lacks {
		return lacksValue(name)
	}
	if match := badValue.FindStringSubmatch(err.Error()); match != nil {
		if f := flags.Lookup(match[1]); f != nil {
			return "--" + f.Name + " " + valueProblem(f)
		}
	}
	return "a flag is malformed, or has a value that it does not accept"
}

// badValue matches the error of package flag for a value that a flag does not accept.
var badValue = regexp.MustCompile(`(?s)^invalid (?:boolean )?value ".*" for (?:flag )?-([a-z-]+): `)

// valueProblem returns what is wrong with a flag whose value is not of its type.
func valueProblem(f *flag.Flag) string {
	switch f.Value.(flag.Getter).Get().(type) {
	case bool:
		return "takes no value"
	case time.Duration:
		return "is not a duration: give one such as 24h or 30m"
	default:
		return "is not a whole number: give one such as 7"
	}
}

// lacksValue returns the text of the error for a flag without a value.
func lacksValue(name string) string { return "--" + name + " needs a value" }

// emptyFlag returns the name of a flag that was given with an empty value, or with a list that has
// no element, or "" if there is none. An empty value is an error, because it usually comes from a
// variable that is not set. It must not mean the same as no flag, as in --paths "$PATHS", which
// would allow all paths.
func emptyFlag(flags *flag.FlagSet) (name string) {
	flags.Visit(func(f *flag.Flag) {
		if len(listOf(f.Value.String())) == 0 {
			name = f.Name
		}
	})
	return name
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

var harmless = regexp.MustCompile(`^-{0,2}[a-z][a-z -]{0,19}$`)

// quoted returns a word of the command line in quotes, or "of that name" if the word may be
// a secret that was given in the wrong place. A word that is short and has only lower-case
// letters, dashes and spaces cannot be a secret.
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
