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

// maxSecret is how many bytes a secret may have. HubSpot's secrets have a few hundred.
const maxSecret = 16 << 10

// secret reads a secret from the file, or from standard input if file is empty or "-". On a
// terminal secret asks for the secret, and does not echo it.
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
	if wrongPath, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("the file of --file: %w", wrongPath.Err) // without the path, which may be the secret
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

// secretProblem returns why the content cannot be a credential of HubSpot, or "" if it can be
// one.
func secretProblem(content []byte) string {
	switch {
	case len(content) == 0:
		return "is empty: give it on standard input or with --file"
	case len(content) > maxSecret:
		return fmt.Sprintf("is longer than %d bytes: check whether this is the right file", maxSecret)
	}
	if i := secret.HeaderUnsafe(string(content)); i >= 0 {
		return fmt.Sprintf("has a space, a line break or another character that no token contains, at byte %d: give only the token", i+1)
	}
	return ""
}

// ask prompts for a secret on the terminal, with echo off.
func (c *call) ask(ctx context.Context, terminal int, what string) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c.stderr, "The %s (it is not shown): ", what)
	defer fmt.Fprintln(c.stderr)
	content, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	if ctx.Err() != nil {
		_ = term.Restore(terminal, before) // ReadPassword still reads, and has not restored the terminal
	}
	return content, err
}

// await returns the result of read, or an error if ctx ends first, as after Ctrl-C. A read
// from a terminal or a pipe cannot be cancelled. So after ctx has ended, the read
// continues in the background.
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
