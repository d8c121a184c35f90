package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/term"

	"hubspot-auth-proxy/tokens/secret"
)

// maxSecret is how long a secret may be, in bytes. HubSpot's have a few hundred.
const maxSecret = 16 << 10

// secret reads a secret: from the file if one is named, else from standard
// input. A person at a terminal is asked for it, and does not see it.
func (c *call) secret(ctx context.Context, what, file string) (secret.Text, error) {
	var content []byte
	var err error
	keyboard, _ := c.stdin.(*os.File)
	switch {
	case file != "" && file != "-":
		content, err = readFile(file)
	case keyboard != nil && isTerminal(keyboard):
		content, err = c.ask(ctx, int(keyboard.Fd()), what)
	default:
		content, err = await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(c.stdin, maxSecret+3)) })
	}
	if wrongPath := (*fs.PathError)(nil); errors.As(err, &wrongPath) {
		err = fmt.Errorf("the file of --file: %w", wrongPath.Err) // not its path, which may be the secret
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the %s: %w", what, err)
	}
	if before, found := bytes.CutSuffix(content, []byte("\n")); found {
		content = bytes.TrimSuffix(before, []byte("\r"))
	}
	if problem := secretProblem(content); problem != "" {
		return secret.Text{}, fmt.Errorf("the %s %s", what, problem)
	}
	return secret.New(string(content)), nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxSecret+3))
}

// secretProblem says what keeps the content from being a credential of
// HubSpot's, nothing if it may be one.
func secretProblem(content []byte) string {
	switch {
	case len(content) == 0:
		return "is empty: give it by standard input or --file"
	case len(content) > maxSecret:
		return fmt.Sprintf("is longer than %d bytes: is it another file?", maxSecret)
	}
	if i := secret.HeaderUnsafe(string(content)); i >= 0 {
		return fmt.Sprintf("has a blank, a line break or a character that no token has, at byte %d: give the bare value", i+1)
	}
	return ""
}

// ask asks a person for a secret, with the terminal's echo off.
func (c *call) ask(ctx context.Context, terminal int, what string) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c.stderr, "The %s (it is not shown): ", what)
	defer fmt.Fprintln(c.stderr)
	content, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	if ctx.Err() != nil {
		_ = term.Restore(terminal, before) // the reading that goes on would not
	}
	return content, err
}

// await returns what read returns, or an error when ctx ends first, as by
// Ctrl-C: reading from a terminal or pipe cannot be broken off, and goes on.
func await(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		content, err := read()
		done <- result{content, err}
	}()
	select {
	case r := <-done:
		return r.content, r.err
	case <-ctx.Done():
		return nil, errors.New("interrupted")
	}
}
