package main

import (
	"flag"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// code matches text between backticks.
var code = regexp.MustCompile("`([^`]+)`")

// firstCells returns, for each row of the page's tables, the code in the first cell and the
// cells after it.
func firstCells(page string) (names []string, rest [][]string) {
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.TrimSpace(strings.ReplaceAll(line, `\|`, "\x00")), "|")
		if len(cells) < 3 || cells[0] != "" {
			continue
		}
		for _, found := range code.FindAllStringSubmatch(cells[1], -1) {
			names = append(names, strings.ReplaceAll(found[1], "\x00", "|"))
			rest = append(rest, cells[2:])
		}
	}
	return names, rest
}

// settings returns the names of the program's settings in order, and their defaults.
func settings(t *testing.T) (names []string, defaults map[string]string) {
	t.Helper()
	loaded, err := config.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := loaded.Print(&table, nil); err != nil {
		t.Fatal(err)
	}
	defaults = map[string]string{}
	for line := range strings.Lines(table.String()) {
		if fields := strings.Fields(line); fields[0] != "NAME" {
			names = append(names, fields[0])
			if fields[len(fields)-1] == "default" {
				defaults[fields[0]] = strings.Join(fields[1:len(fields)-1], " ")
			}
		}
	}
	return names, defaults
}

func TestTheDocumentOfSettingsHasEachSettingAndItsDefault(t *testing.T) {
	want, defaults := settings(t)
	got, cells := firstCells(read(t, filepath.Join(repository, "config/README.md")))
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("(-program +page):\n%s", diff)
	}
	for i, name := range got {
		stated := strings.TrimSpace(cells[i][0])
		if value := code.FindStringSubmatch(stated); value != nil && value[0] == stated && value[1] != defaults[name] && !sameTime(value[1], defaults[name]) {
			t.Errorf("the default of %s is %q, not %q", name, defaults[name], value[1])
		}
		if stated == "" && defaults[name] != "" {
			t.Errorf("%s has the default %q", name, defaults[name])
		}
	}
}

// sameTime reports whether both texts are the same duration, such as 120s and 2m0s.
func sameTime(a, b string) bool {
	first, err := time.ParseDuration(a)
	if err != nil {
		return false
	}
	second, err := time.ParseDuration(b)
	return err == nil && first == second
}

func TestTheDocumentOfCommandsHasEachCommandAndItsArguments(t *testing.T) {
	var want []string
	for _, cmd := range allCommands() {
		want = append(want, strings.TrimSpace(cmd.name+" "+cmd.args))
	}
	got, _ := firstCells(read(t, "README.md"))
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("(-program +page):\n%s", diff)
	}
}

// programCall matches a call of the program in a line of shell, up to the end of the command.
var programCall = regexp.MustCompile(`(?m)(?:^|\$\(|\| )(?:[A-Z_]+=\S+ )*(?:docker exec (?:-i )?\S+ /)?hubspot-auth-proxy((?: [^|<>;&#)\n]+)?)`)

func TestCommandsInDocumentsExist(t *testing.T) {
	calls := 0
	for name, text := range documents(t) {
		lines := blocks(text, "sh")
		for _, found := range code.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
			lines = append(lines, found[1])
		}
		for _, found := range programCall.FindAllStringSubmatch(strings.Join(lines, "\n"), -1) {
			calls++
			isCommand(t, name, strings.Fields(found[1]))
		}
	}
	if calls < 10 {
		t.Errorf("only %d calls were found", calls)
	}
}

// isCommand fails the test if the program does not accept the arguments. There may be one word
// too many, because a quoted text is split at its spaces.
func isCommand(t *testing.T, document string, args []string) {
	t.Helper()
	if len(args) > 0 && args[0] == "help" {
		return
	}
	cmd, rest, err := find(args)
	if err != nil {
		t.Errorf("%s: hubspot-auth-proxy %s: %v", document, strings.Join(args, " "), err)
		return
	}
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	cmd.open(flags)
	if positional, err := parse(flags, rest); err != nil || len(positional) < cmd.least || len(positional) > cmd.most {
		t.Errorf("%s: hubspot-auth-proxy %s: %v, %d arguments", document, strings.Join(args, " "), err, len(positional))
	}
}

func TestTheDocumentOfMetricsHasEachMetric(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := startIntercepting(t, append(oauth(hub), "NOTIFY_URL=http://127.0.0.1:1/")...) // both have metrics of their own
	_, _ = get(t, "http://"+p.address()+"/fake/status?code=429")                       // whose answer has a rate limit
	families, _ := scrape(t, p.admin)
	var want, got []string
	for name := range families {
		if own, is := strings.CutPrefix(name, ownMetrics); is {
			want = append(want, own)
		}
	}
	names, _ := firstCells(read(t, filepath.Join(repository, "proxy/admin/README.md")))
	for _, name := range names {
		if regexp.MustCompile(`^[a-z_]+$`).MatchString(name) {
			got = append(got, name)
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("(-program +page):\n%s", diff)
	}
}

// foreign are the variables in documents that other programs read.
var foreign = []string{
	"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "NODE_USE_ENV_PROXY", "REQUESTS_CA_BUNDLE",
	"HUBSPOT_BASE_URL", "PRIVATE_APP_ACCESS_TOKEN", "BASE_URL_OVERRIDE", "PR_SET_DUMPABLE", "RLIMIT_CORE",
	"NAME_FILE", "FUZZTIME", "REDISCLI_AUTH", "OLD_HOST", "OLD_PORT",
}

// The test searches for variables and categories: code in capital letters with an underscore.
// The program's source contains all names that it reads or answers.
func TestSettingsAndCategoriesInDocumentsExist(t *testing.T) {
	capitals := regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)
	known := map[string]bool{}
	for _, name := range foreign {
		known[name] = true
	}
	for _, path := range files(t, ".go") {
		if !strings.HasSuffix(path, "_test.go") {
			for _, word := range capitals.FindAllString(read(t, filepath.Join(repository, path)), -1) {
				known[word], known[word+"_FILE"] = true, true
			}
		}
	}
	wantOnly(t, capitals, known, 100)
}

// wantOnly fails the test unless every match of the pattern in the documents is known. There
// must be at least so many matches.
func wantOnly(t *testing.T, pattern *regexp.Regexp, known map[string]bool, least int) {
	t.Helper()
	matches := 0
	for document, text := range documents(t) {
		for _, match := range pattern.FindAllString(text, -1) {
			if matches++; !known[match] {
				t.Errorf("%s: there is no %s", document, match)
			}
		}
	}
	if matches < least {
		t.Errorf("only %d matches of %s were found", matches, pattern)
	}
}
