package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
)

// runMain is the variable that makes the test binary run the program, for tests that need a
// process.
const runMain = "HUBSPOT_AUTH_PROXY_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	// Most tests wait, and leave the processors idle.
	_ = flag.Set("test.parallel", "8")
	testscript.Main(m, map[string]func(){"hubspot-auth-proxy": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", Cmds: scriptCommands,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, raceAtOnce)
			return nil
		},
	})
}

// TestScriptsWithRedis runs those that want a Redis and a HubSpot. Each has keys in
// Redis of its own.
func TestScriptsWithRedis(t *testing.T) {
	server := redistest.Start(t) // the test is skipped if redis-server is not installed
	var scripts atomic.Int64
	runScripts(t, func(*testscript.Env) []string {
		return []string{"REDIS_URL=" + server.URL(), fmt.Sprintf("REDIS_PREFIX=hubspot:script%d:", scripts.Add(1))}
	})
}

// TestScriptsWithAStateFile runs the same scripts without a Redis and without a proxy.
func TestScriptsWithAStateFile(t *testing.T) {
	runScripts(t, func(e *testscript.Env) []string {
		folder := filepath.Join(e.WorkDir, "state-of-the-proxy")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Error(err)
		}
		return []string{"STATE_FILE=" + filepath.Join(folder, "state")}
	})
}

// runScripts runs the scripts that want a HubSpot. Each has one of its own.
func runScripts(t *testing.T, settings func(*testscript.Env) []string) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script/redis",
		Cmds: scriptCommands,
		Setup: func(e *testscript.Env) error {
			hub := hubspottest.NewServer()
			e.Defer(hub.Close)
			hub.SetAccessToken("62516", "pat-na1-"+hubspottest.Canary)
			hub.SetAPIKey("62517", "key-"+hubspottest.Canary)
			e.Vars = append(e.Vars, settings(e)...)
			e.Vars = append(e.Vars, raceAtOnce,
				"UPSTREAM_URL="+hub.URL, "HUBSPOT_CLIENT_ID="+hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET="+hubspottest.ClientSecret,
				"OTHER_CLIENT_ID="+hubspottest.OtherClientID, "OTHER_CLIENT_SECRET="+hubspottest.OtherClientSecret,
				"REFRESH_62515="+hub.Connect("62515"), "REFRESH_62520="+hub.Connect("62520"), "HUBSPOT="+hub.URL, "ACCESS_62516=pat-na1-"+hubspottest.Canary, "KEY_62517=key-"+hubspottest.Canary)
			e.Values["hub"] = hub
			return nil
		},
	})
}

// raceAtOnce keeps the race detector from sleeping for a second at the end of
// each process.
const raceAtOnce = "GORACE=atexit_sleep_ms=0"

var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":      exits,
	"json":       jsonHas,
	"disconnect": func(ts *testscript.TestScript, _ bool, args []string) { scriptHub(ts).Disconnect(args[0]) },
	"expire":     func(ts *testscript.TestScript, _ bool, args []string) { scriptHub(ts).Expire(args[0]) },
	"revoke":     func(ts *testscript.TestScript, _ bool, args []string) { scriptHub(ts).SetAccessToken(args[0], "") },
}

func scriptHub(ts *testscript.TestScript) *hubspottest.Server {
	return ts.Value("hub").(*hubspottest.Server)
}

// exits STATUS ARGS… runs the program, and checks its exit status, and that its output contains
// no secret.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(program, args[1:]...)
	if failure := (*exec.ExitError)(nil); errors.As(err, &failure) {
		got = failure.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
	for _, stream := range []string{"stdout", "stderr"} {
		if printed := ts.ReadFile(stream); strings.Contains(printed, hubspottest.Canary) {
			ts.Fatalf("a secret is on %s:\n%s", stream, printed)
		}
	}
}

// json PATH WANT checks the value at the path, such as 0.id, in the JSON on stdout. Without WANT
// it checks that the path does not exist.
func jsonHas(ts *testscript.TestScript, _ bool, args []string) {
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
	for name := range strings.SplitSeq(args[0], ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			index, err := strconv.Atoi(name)
			ts.Check(err)
			value = nil
			if index < len(v) {
				value = v[index]
			}
		default:
			value = nil
		}
	}
	if len(args) == 1 && value != nil || len(args) == 2 && fmt.Sprint(value) != args[1] {
		ts.Fatalf("%s is %v, want %v", args[0], value, args[1:])
	}
}
