// Command hubspot-auth-proxy is an authenticating reverse proxy in front of
// api.hubapi.com.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"hubspot-auth-proxy/config"
)

const usage = `hubspot-auth-proxy forwards calls to api.hubapi.com, each with its portal's
own credential, which it renews before it expires.

Usage:

  hubspot-auth-proxy [serve]   run the proxy, with its settings from the environment
  hubspot-auth-proxy demo      run it against a fake HubSpot, with curl lines to try
  hubspot-auth-proxy config    print every setting, its value and where it came from
  hubspot-auth-proxy version   print the version

Exit status: 0 done, 1 failed, 2 wrong use or wrong settings.
Every setting is told in the README.
`

func main() {
	// The first signal ends the program in good order, a second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	os.Exit(status(err, os.Stderr))
}

// run runs one command until it is done, or ctx is.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	command := "serve"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if len(args) > 0 && command != "help" {
		return usageError(fmt.Sprintf("%s takes no arguments, but was given %q", command, args[0]))
	}
	switch command {
	case "serve":
		return serve(ctx, environ, stderr)
	case "demo":
		return demo(ctx, environ, stdout, stderr)
	case "config":
		return printConfig(environ, stdout)
	case "version":
		return printVersion(stdout)
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	return usageError(fmt.Sprintf("there is no command %q", command))
}

// usageError says how the program was called wrongly.
type usageError string

func (e usageError) Error() string { return string(e) }

// status tells what went wrong and returns the exit status that stands for it.
func status(err error, stderr io.Writer) int {
	var faults config.Faults
	var wrongUse usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &faults):
		fmt.Fprintln(stderr, faults)
		return 2
	case errors.As(err, &wrongUse):
		fmt.Fprintf(stderr, "hubspot-auth-proxy: %s; see hubspot-auth-proxy help\n", wrongUse)
		return 2
	default:
		fmt.Fprintf(stderr, "hubspot-auth-proxy: %v\n", err)
		return 1
	}
}

// printConfig prints the settings as serve would use them.
func printConfig(environ []string, stdout io.Writer) error {
	settings, err := config.Load(environ)
	if err != nil {
		return err
	}
	return settings.Print(stdout)
}
