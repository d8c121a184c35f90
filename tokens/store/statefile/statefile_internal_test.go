//go:build unix

package statefile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2/proto"

	"hubspot-auth-proxy/tokens/testkit"
)

// FuzzRead reads any file. What is read is the same when it is written and read again.
func FuzzRead(f *testing.F) {
	for _, e := range []entry{
		{kind: kindString, key: "epoch", values: []string{"1-x"}},
		{kind: kindHash, key: "portal:{1}", values: []string{"a", "\xff\n", "", "…"}},
		{kind: kindGone, key: ""},
		{kind: kindString, key: "nonce", expires: 1 << 42, values: []string{""}},
	} {
		f.Add([]byte(header + e.line()))
		f.Add([]byte(header + e.line()[:20]))
	}
	f.Add([]byte(header + "00000000 0 \n\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		kept, whole, err := read(content)
		if err != nil {
			return
		}
		if whole > len(content) || whole < len(header) {
			t.Fatalf("%d of %d bytes are whole", whole, len(content))
		}
		again, length, err := read(content[:whole])
		if err != nil || length != whole || !reflect.DeepEqual(kept, again) {
			t.Fatalf("read again: %d of %d bytes, %v", length, whole, err)
		}
		for key, saved := range kept {
			e, ok := parse(strings.TrimSuffix(saved.line, "\n"))
			if same, ok2 := parse(strings.TrimSuffix(e.line(), "\n")); !ok || !ok2 || e.key != key || !reflect.DeepEqual(e, same) {
				t.Fatalf("%q is %+v, and then %+v", saved.line, e, same)
			}
		}
	})
}

// ownPath returns a path in an empty folder of this user's own.
func ownPath(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "state")
}

// opened opens a new file. The test closes the server and the client.
func opened(t *testing.T) (server *Server, client *proto.Client, path string) {
	t.Helper()
	path = ownPath(t)
	server, err := Open(path, Options{Holder: "test"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := server.Dial()
	if err != nil {
		t.Fatal(err)
	}
	return server, proto.NewClient(conn), path
}

// While the disk is full, a change is refused and undone; later it is taken.
func TestAChangeThatCannotBeWrittenIsRefusedAndUndone(t *testing.T) {
	t.Parallel()
	server, client, path := opened(t)
	do := func(want string, args ...string) {
		t.Helper()
		if got, err := client.Do(args...); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", args, got, err, want)
		}
	}
	do(proto.Int(1), "HSET", "record", "token", "old")

	// Neither can the file be appended to, nor another one be made.
	if err := os.MkdirAll(path+nextSuffix+"/full", 0o700); err != nil {
		t.Fatal(err)
	}
	server.gate.Lock()
	full, err := os.Open("/dev/null") // which cannot be written to when it is opened so
	if err != nil {
		t.Fatal(err)
	}
	_ = server.disk.file.Close()
	server.disk.file = full
	server.gate.Unlock()
	const refused = "MISCONF the state file cannot be written"
	do(proto.Error(refused), "HSET", "record", "token", "new", "further", "field")
	do(proto.Error(refused), "SET", "epoch", "1")
	do(proto.Error(refused), "DEL", "record")
	do(proto.Strings("token", "old"), "HGETALL", "record")
	do(proto.Nil, "GET", "epoch")
	do(proto.Inline("OK"), "SET", "nonce", "x", "PX", "60000")

	if err := os.RemoveAll(path + nextSuffix); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "changes are taken again", func() bool {
		got, err := client.Do("HSET", "record", "token", "newer")
		return err == nil && got == proto.Int(0)
	})
	_ = client.Close()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"token" "newer"`) || !strings.Contains(string(text), `"nonce" "x"`) || strings.Contains(string(text), "further") {
		t.Errorf("the file is %s, %v", text, err)
	}
}

// A write that was partly done must not be followed by another.
func TestAFileThatCannotBeSyncedIsWrittenAnew(t *testing.T) {
	t.Parallel()
	path := ownPath(t)
	d, err := openDisk(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if _, _, err := d.load(); err != nil {
		t.Fatal(err)
	}
	d.broken = errors.New("input/output error")
	if err := d.append("line\n"); err == nil {
		t.Error("it is appended to")
	}
	next, err := d.prepare([]string{"line\n"})
	if err == nil {
		err = d.replace(next, "more\n")
	}
	if err == nil {
		err = d.append("last\n")
	}
	text, _ := os.ReadFile(path)
	if err != nil || string(text) != header+"line\nmore\nlast\n" || d.size != int64(len(text)) {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func TestWhatIsWrittenWhileTheFileIsWrittenAnewIsInTheNewFile(t *testing.T) {
	t.Parallel()
	server, client, path := opened(t)
	rewritten := make(chan struct{})
	go func() {
		defer close(rewritten)
		for range 50 {
			server.rewrite()
		}
	}()
	var keys []string
	for done := false; !done; {
		select {
		case <-rewritten:
			done = true
		default:
		}
		keys = append(keys, strconv.Itoa(len(keys)))
		if _, err := client.Do("SET", keys[len(keys)-1], "x"); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if kept, _, err := read(text); err != nil || len(kept) != len(keys) {
		t.Errorf("the file has %d of %d keys, %v", len(kept), len(keys), err)
	}
	_ = client.Close()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseReportsThatChangesAreLost(t *testing.T) {
	t.Parallel()
	server, client, path := opened(t)
	_ = client.Close()
	if err := os.MkdirAll(path+nextSuffix+"/full", 0o700); err != nil { // so that no new file can be made
		t.Fatal(err)
	}
	server.gate.Lock()
	server.disk.broken = errors.New("input/output error")
	_ = server.redis.DB(0).Set("count", "1")
	server.later["count"] = struct{}{}
	server.gate.Unlock()
	if err := server.Close(); err == nil {
		t.Error("no error")
	}
}
