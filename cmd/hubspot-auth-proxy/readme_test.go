package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestTheREADMEIsReadInTenMinutes(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(read(t, filepath.Join(repository, "README.md")), "\n"), "\n")
	if len(lines) > 220 {
		t.Errorf("%d lines", len(lines))
	}
	for i, line := range lines {
		if utf8.RuneCountInString(line) > 140 {
			t.Errorf("line %d has %d characters", i+1, utf8.RuneCountInString(line))
		}
	}
}

func TestTestsThatDocumentsNameExist(t *testing.T) {
	name := regexp.MustCompile(`\bTest[A-Z]\w+`)
	exists := map[string]bool{}
	for _, path := range files(t, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			for _, found := range name.FindAllString(read(t, filepath.Join(repository, path)), -1) {
				exists[found] = true
			}
		}
	}
	wantOnly(t, name, exists, 10)
}

func TestShellInDocumentsIsValid(t *testing.T) {
	for document, text := range documents(t) {
		for _, script := range blocks(text, "sh") {
			check := exec.Command("bash", "-n")
			check.Stdin = strings.NewReader(script)
			if printed, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s in\n%s", document, err, printed, script)
			}
		}
	}
}

// A recipe is a user in an empty folder who types the lines of the README.
type recipe struct {
	t       *testing.T
	hub     *hubspottest.Server
	folder  string
	admin   string            // the admin listener's address
	environ []string          // of every line
	values  *strings.Replacer // replaces the values of the README by those of the test
}

const readmeToken = "pat-na1-" + hubspottest.Canary

// newRecipe returns a recipe with a fake HubSpot and free ports.
func newRecipe(t *testing.T, bin string, settings ...string) *recipe {
	t.Helper()
	r := &recipe{t: t, hub: hubspottest.NewServer(), folder: t.TempDir(), admin: freePort(t)}
	t.Cleanup(r.hub.Close)
	r.hub.AllowClientKeys()
	r.hub.SetAccessToken("62516", readmeToken)
	address := freePort(t)
	r.environ = append([]string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + r.folder, "LISTEN_ADDR=" + address, "ADMIN_ADDR=" + r.admin,
		"UPSTREAM_URL=" + r.hub.URL, "HUBSPOT_AUTHORIZE_URL=" + r.hub.AuthorizeURL(),
	}, settings...)
	r.values = strings.NewReplacer(
		"127.0.0.1:8080", address, "localhost:8081", r.admin, "pat-na1-…", readmeToken,
		"HUBSPOT_CLIENT_ID=…", "HUBSPOT_CLIENT_ID="+hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=…", "HUBSPOT_CLIENT_SECRET="+hubspottest.ClientSecret,
	)
	return r
}

// serve types a block that ends with starting the proxy, in a separate terminal.
func (r *recipe) serve(script string) *process {
	r.t.Helper()
	script = r.values.Replace(script)
	end := strings.LastIndex(script, "hubspot-auth-proxy")
	bash := testkit.Need(r.t, "bash")
	return launchWith(r.t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args, cmd.Dir = bash, []string{"bash", "-ec", script[:end] + "exec " + script[end:]}, r.folder
		cmd.Env = r.environ
	}, "")
}

// run types a block, and returns its output. An HTTP status of 400 or more fails the test.
func (r *recipe) run(script string) string {
	r.t.Helper()
	cmd := exec.Command("bash", "-ec", "curl() { command curl -sS --fail \"$@\"; }\n"+r.values.Replace(script))
	cmd.Dir, cmd.Env = r.folder, r.environ
	printed, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s\nprinted %s\n%v", script, printed, err)
	}
	return string(printed)
}

// wants runs a block, and checks that its output contains each of the texts.
func (r *recipe) wants(script string, texts ...string) {
	r.t.Helper()
	printed := r.run(script)
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			r.t.Errorf("%s\nprinted %s\nwithout %s", script, printed, text)
		}
	}
}

// sections returns the blocks of shell in each section of a document.
func sections(t *testing.T, document string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	section := regexp.MustCompile(`(?m)^##+ (.*)$`)
	text := read(t, filepath.Join(repository, document))
	at := section.FindAllStringSubmatchIndex(text, -1)
	for i, heading := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		if scripts := blocks(text[heading[1]:end], "sh"); scripts != nil {
			found[text[heading[2]:heading[3]]] = scripts
		}
	}
	return found
}

func TestTheLinesOfTheREADMERun(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "curl")
	all := sections(t, "README.md")
	bin := t.TempDir()
	build := exec.Command("bash", "-ec", all["Build"][0])
	build.Dir, build.Env = repository, append(os.Environ(), "GOBIN="+bin)
	if printed, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	recipes := map[string]func(t *testing.T){
		"Without a HubSpot account": func(t *testing.T) {
			newRecipe(t, bin).serve(all["Without a HubSpot account"][0] + "\n").until("Press Ctrl-C to stop")
		},
		"One token":                   func(t *testing.T) { oneToken(t, bin, all["One token"], all["See that it works"][0]) },
		"An OAuth app":                func(t *testing.T) { anOAuthApp(t, bin, all["An OAuth app"], all["See that it works"][0]) },
		"Many portals, kept in Redis": func(t *testing.T) { manyPortals(t, bin, all["Many portals, kept in Redis"], all["Client keys"][0]) },
	}
	// Build has already run. The others run within the sections above, or need Docker or Kubernetes.
	elsewhere := map[string]bool{"Build": true, "See that it works": true, "Client keys": true, "Docker, with Redis": true, "Kubernetes": true}
	for section := range all {
		try := recipes[section]
		switch {
		case try != nil:
			t.Run(section, func(t *testing.T) {
				t.Parallel()
				try(t)
			})
		case !elsewhere[section]:
			t.Errorf("the lines of the section %q are not tried", section)
		}
	}
}

func oneToken(t *testing.T, bin string, lines []string, look string) {
	r := newRecipe(t, bin)
	r.serve(lines[0]).address()
	r.wants(lines[1], `"Portal": "62516"`)
	r.wants(look, "X-Hubspot-Auth-Proxy-Credential: access_token", "redis", "ready")
}

// anOAuthApp connects a portal as a person does in a browser, in memory, and in a file
// that keeps it over a restart.
func anOAuthApp(t *testing.T, bin string, lines []string, look string) {
	r := newRecipe(t, bin)
	r.serve(lines[0]).address()
	connectByClick(t, r)
	r.wants(lines[1], `"Portal": "62515"`)
	// The reader takes the URL of the comment.
	line, rest, _ := strings.Cut(look, "\n")
	_, url, _ := strings.Cut(line, "many portals: ")
	r.wants("URL="+url+"\n"+rest, "X-Hubspot-Auth-Proxy-Portal: 62515", "X-Hubspot-Auth-Proxy-Credential: oauth", "ready")

	r = newRecipe(t, bin)
	kept := strings.TrimSuffix(lines[0], "hubspot-auth-proxy\n") + lines[2]
	first := r.serve(kept)
	first.address()
	connectByClick(t, r)
	first.terminate()
	first.exit()
	r.serve(kept).address()
	r.wants(lines[1], `"Portal": "62515"`)
}

func connectByClick(t *testing.T, r *recipe) {
	t.Helper()
	someone := &person{t: t}
	_, _, authorize := someone.open("http://" + r.admin + "/connect")
	back, err := r.hub.Authorize(authorize, "62515")
	if err != nil {
		t.Fatal(err)
	}
	if status, page, _ := someone.open(back); status != http.StatusOK || !strings.Contains(page, "Portal 62515 is connected") {
		t.Fatalf("status %d:\n%s", status, page)
	}
}

// manyPortals stores a portal and makes client keys. A restart loses neither.
func manyPortals(t *testing.T, bin string, lines []string, keys string) {
	server := redistest.Start(t) // skips without redis-server
	r := newRecipe(t, bin, "REDIS_URL="+server.URL())
	r.values = strings.NewReplacer("redis://127.0.0.1:6379/0", server.URL())
	if err := os.WriteFile(filepath.Join(r.folder, "token.txt"), []byte(readmeToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := r.serve(lines[0])
	address := first.address()
	r.wants(lines[1], "62516", "Acme", "access_token", "active")
	r.wants("curl http://"+address+"/portals/62516/crm/v3/objects/contacts", `"Portal": "62516"`)
	r.wants(keys, "hap_")
	first.terminate()
	first.exit()
	r.wants("curl http://"+r.serve(lines[0]).address()+"/portals/62516/crm/v3/objects/contacts", `"Portal": "62516"`)
}
