//go:build unix

package tokens_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/store/statefile"
)

// The environment of a writer: a process that changes the portals in a state file, as its
// standard input says, until it is killed. It prints the number of each change that is done.
const (
	writerState = "TOKENS_TEST_WRITER_STATE"
	writerKeys  = "TOKENS_TEST_WRITER_KEYS"
)

// A change is one line for a writer.
type change struct {
	number                    int
	what, portal              string // "connect", "renew" or "remove"
	accessToken, refreshToken string
}

// beWriter is a writer's main.
func beWriter() {
	client, _, err := store.EmbeddedIn(context.Background(), os.Getenv(writerState), smallState)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ring, _ := seal.Parse(secret.New(os.Getenv(writerKeys)))
	s := store.New(store.Database{Redis: client, Prefix: "hubspot:"}, ring, time.Now)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c change
		_, err := fmt.Sscan(lines.Text(), &c.number, &c.what, &c.portal, &c.accessToken, &c.refreshToken)
		if err == nil {
			err = c.write(s)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.number)
	}
}

// smallState makes the file be written anew every few changes.
var smallState = statefile.Options{Holder: "test", Waste: 2 << 10}

func (c change) write(s *store.Store) error {
	record := store.Record{
		Kind: store.OAuth, State: store.Active, Secret: secret.New(c.accessToken), Refresh: secret.New(c.refreshToken),
		ExpiresAt: time.Now().Add(time.Hour), App: hubspottest.ClientID,
	}
	do := store.Change{Record: record, Numbering: store.Set, Always: true}
	switch c.what {
	case "remove":
		do.Record = store.Record{Kind: store.OAuth, State: store.Removed}
	case "renew":
		old, err := s.Load(context.Background(), c.portal)
		if err != nil {
			return err
		}
		record.Grant = old.Grant
		do = store.Change{Record: record, Numbering: store.Renew, Replaces: &old}
	}
	_, err := s.Write(context.Background(), c.portal, do)
	return err
}

// randomChanges returns n changes of a few portals.
func randomChanges(hub *hubspottest.Server, n int) []change {
	removed := map[string]bool{}
	changes := make([]change, n)
	for i := range changes {
		c := change{i + 1, "renew", fmt.Sprint(62515 + rand.N(6)), "-", "-"}
		switch was, known := removed[c.portal]; {
		case was || !known || rand.N(8) == 0:
			c.what = "connect"
		case rand.N(8) == 0:
			c.what = "remove"
		}
		removed[c.portal] = c.what == "remove"
		if c.what != "remove" {
			c.accessToken, c.refreshToken = hub.Issue(c.portal, time.Hour), hub.Connect(c.portal)
		}
		changes[i] = c
	}
	return changes
}

func TestAKillAtAnyMomentLosesNoChangeOfAStateFile(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	changes := randomChanges(hub, 300)
	path := statePath(t)
	keys, err := seal.Generate("a")
	if err != nil {
		t.Fatal(err)
	}
	done, kills := 0, 0
	for ; done < len(changes); kills++ {
		done = writeAndKill(t, path, keys, changes, done)
		done = checkState(t, hub, path, keys, changes, done)
	}
	t.Logf("%d kills in %d changes", kills, len(changes))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.what != "remove" && (strings.Contains(string(text), c.refreshToken) || strings.Contains(string(text), c.accessToken)) {
			t.Fatal("a token is in the file as it is")
		}
	}
}

// writeAndKill starts a writer with the changes after those that are done, kills it within the
// next few, and returns how many are done then as far as is known.
func writeAndKill(t *testing.T, path string, keys secret.Text, changes []change, done int) int {
	t.Helper()
	writer := exec.CommandContext(t.Context(), os.Args[0])
	writer.Env = append(os.Environ(), writerState+"="+path, writerKeys+"="+keys.Reveal())
	input, _ := writer.StdinPipe()
	output, _ := writer.StdoutPipe()
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, c := range changes[done:] {
		fmt.Fprintln(&lines, c.number, c.what, c.portal, c.accessToken, c.refreshToken)
	}
	go func() { _, _ = io.WriteString(input, lines.String()); _ = input.Close() }()

	last := done + rand.N(25)
	printed := bufio.NewScanner(output)
	for done < min(last, len(changes)) && printed.Scan() {
		if _, err := fmt.Sscan(printed.Text(), &done); err != nil {
			t.Fatalf("the writer prints %q", printed.Text())
		}
	}
	time.Sleep(rand.N(3 * time.Millisecond)) // so that the kill comes at a random point of the next change
	_ = writer.Process.Kill()
	for printed.Scan() {
		if _, err := fmt.Sscan(printed.Text(), &done); err != nil {
			t.Fatalf("the writer prints %q", printed.Text())
		}
	}
	_ = writer.Wait()
	return done
}

// checkState opens the file, wants all changes in it that are done, and returns how many it
// has: it may have one more.
func checkState(t *testing.T, hub *hubspottest.Server, path string, keys secret.Text, changes []change, done int) int {
	t.Helper()
	client, end, err := store.EmbeddedIn(t.Context(), path, smallState)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}()
	ring, _ := seal.Parse(keys)
	has := store.New(store.Database{Redis: client, Prefix: "hubspot:"}, ring, time.Now)
	if done < len(changes) && holds(t, has, changes[done]) {
		done++
	}
	expected := map[string]change{}
	for _, c := range changes[:done] {
		expected[c.portal] = c
	}
	s := newSource(t, hub, tokens.Options{Redis: client, Keys: ring})
	for portal, c := range expected {
		if !holds(t, has, c) {
			t.Errorf("portal %s: change %d of %d (%s) is lost", portal, c.number, done, c.what)
		}
		credential, err := s.Credential(t.Context(), portal)
		if c.what == "remove" {
			if !errors.Is(err, tokens.ErrNotConnected) {
				t.Errorf("portal %s was removed, and is served: %v", portal, err)
			}
		} else if err != nil || credential.Secret.Reveal() != c.accessToken {
			t.Errorf("portal %s: %v", portal, err)
		}
	}
	return done
}

// holds reports whether the change is the portal's last one.
func holds(t *testing.T, s *store.Store, c change) bool {
	t.Helper()
	record, err := s.Load(t.Context(), c.portal)
	if err != nil && !errors.Is(err, store.ErrNoRecord) {
		t.Fatal(err)
	}
	if c.what == "remove" {
		return record.State == store.Removed
	}
	return record.State == store.Active && record.Refresh.Reveal() == c.refreshToken
}
