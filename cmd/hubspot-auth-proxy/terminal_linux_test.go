package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// A terminal is a pseudo-terminal: the side of the person, and the far end, for the program.
type terminal struct {
	*os.File
	far    *os.File
	screen *testkit.Output
	shown  chan string // the text of each write, while a test waits for it
	reader sync.WaitGroup
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{File: near, far: far, screen: &testkit.Output{}, shown: make(chan string, 1000)}
	x.reader.Go(func() {
		for buffer := make([]byte, 4096); ; {
			n, err := near.Read(buffer)
			if err != nil {
				close(x.shown)
				return
			}
			_, _ = x.screen.Write(buffer[:n])
			x.shown <- string(buffer[:n])
		}
	})
	t.Cleanup(x.hangUp)
	return x
}

// hangUp closes the terminal. After that the screen has everything that was written.
func (x *terminal) hangUp() {
	_ = x.far.Close()
	x.reader.Wait()
	_ = x.Close()
}

// until waits until the terminal shows the text.
func (x *terminal) until(t *testing.T, text string) {
	t.Helper()
	for range x.shown {
		if strings.Contains(x.screen.String(), text) {
			return
		}
	}
	t.Fatalf("%q is never shown, but:\n%s", text, x.screen)
}

// echoes reports whether the terminal shows typed text.
func (x *terminal) echoes(t *testing.T) bool {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(x.far.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

func TestATypedSecretIsNotShown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	x := newTerminal(t)
	var stdout testkit.Output
	done := make(chan error)
	go func() {
		done <- run(t.Context(), []string{"portal", "set", "62515", "access_token"}, []string{"REDIS_URL=" + server.URL()}, x.far, &stdout, x.far)
	}()
	x.until(t, "it is not shown")
	testkit.Eventually(t, "the echo is off", func() bool { return !x.echoes(t) })
	if _, err := io.WriteString(x, "pat-na1-"+hubspottest.Canary+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !strings.Contains(stdout.String(), "is stored") {
		t.Errorf("%v, %s", err, &stdout)
	}
	if !x.echoes(t) {
		t.Error("the echo stays off")
	}
	x.hangUp()
	if strings.Contains(x.screen.String(), hubspottest.Canary) {
		t.Errorf("the secret is shown:\n%s", x.screen)
	}
}

func TestAnInterruptDuringThePromptRestoresTheTerminal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	x := newTerminal(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	done := make(chan error)
	go func() {
		done <- run(ctx, []string{"portal", "set", "62515", "access_token"}, []string{"REDIS_URL=" + server.URL()}, x.far, io.Discard, x.far)
	}()
	x.until(t, "it is not shown")
	testkit.Eventually(t, "the echo is off", func() bool { return !x.echoes(t) })
	interrupt()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("the error is %v", err)
	}
	if !x.echoes(t) {
		t.Error("the echo stays off")
	}
	_, _ = io.WriteString(x, "\n") // ends the read that is still waiting
}

func TestProgressIsShownOnATerminal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var key testkit.Output
	if err := run(t.Context(), []string{"keys", "generate", "a"}, nil, nil, &key, io.Discard); err != nil {
		t.Fatal(err)
	}
	environ := []string{"REDIS_URL=" + server.URL()}
	for _, id := range []string{"1", "2"} {
		if err := run(t.Context(), []string{"portal", "set", id, "api_key"}, environ, strings.NewReader(hubspottest.Canary), io.Discard, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	x := newTerminal(t)
	environ = append(environ, "ENCRYPTION_KEYS="+strings.TrimSpace(key.String()))
	err := errors.Join(
		run(t.Context(), []string{"keys", "rotate"}, environ, nil, io.Discard, x.far),
		run(t.Context(), []string{"portal", "check", "--all"}, append(environ, "UPSTREAM_URL=http://127.0.0.1:1"), nil, io.Discard, x.far))
	if err == nil || !strings.Contains(err.Error(), "2 of 2 portals need attention") {
		t.Errorf("the error is %v", err)
	}
	x.hangUp()
	for _, want := range []string{"sealing portals", "1/2", "checking portals"} {
		if !strings.Contains(x.screen.String(), want) {
			t.Errorf("%q is not shown, but %q", want, x.screen)
		}
	}
}
