package seeding_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/config"
)

// placed expands each line "LINE:COLUMN text" to the whole line of a fault.
func placed(faults string) string {
	var lines []string
	for line := range strings.SplitSeq(faults, "\n") {
		at, text, _ := strings.Cut(line, " ")
		row, column, _ := strings.Cut(at, ":")
		lines = append(lines, fmt.Sprintf("SEED_FILE: line %s, column %s: %s", row, column, text))
	}
	return strings.Join(lines, "\n")
}

func TestEachFaultOfASeedHasItsLineAndColumn(t *testing.T) {
	const (
		empty    = "1:1 the file is empty; write {} for a seed without portals and clients, or unset SEED_FILE"
		syntax   = " this is neither YAML nor JSON; check this place and the text before it for a missing or extra quote, bracket, colon or comma, and for a line that is indented differently from its neighbours, or by a tab"
		noFile   = "the file is not a mapping; write it as FIELD: VALUE, with the fields portals, clients"
		noPortal = "the portal is not a mapping; write it as FIELD: VALUE, with the fields id, name, refresh_token, access_token, api_key"
		noClient = "the client is not a mapping; write it as FIELD: VALUE, with the fields name, key, key_sha256, expires, keys, portals, read_only, paths, daily_limit"
		second   = " a second YAML document begins here; put everything into one document, without lines of --- or ... in between"
		deep     = " the file is nested too deeply; write portals and clients, without lists or mappings within their values"
		isText   = " is not text; give text, in quotes if it looks like something else"
		isEmpty  = " is empty; give its value, or leave the field out"
		id       = "id is not a portal id; give a number such as 62515"
		listed   = `this is not a portal id; give a number such as 62515, or "*" for all portals`
		char     = " has a space, a line break or another character that no credential contains; copy the credential again, without anything around it"
		printed  = "name has a line break or another character that is not printable; give one line of text"
		cname    = "name is not a client name; give 1 to 64 letters, digits, dots, - and _, with a letter or digit first"
		sha      = "key_sha256 is not a SHA-256 in lower-case hex; give the 64 digits that printf %s KEY | sha256sum prints"
		hap      = "key does not begin with hap_, or has nothing after it; give a key that client add has printed"
		one      = "keep one of them"
		ids      = `; give a list, such as [62515, 62516], or ["*"] for all portals`
		all      = `"*" is given beside other portals; keep ["*"] for all portals, or the other ids`
		portals  = "portals is not a list; give a list, such as [{id: 62515, access_token: …}]"
		list     = "portals is not a list" + ids
		truth    = "read_only is neither true nor false; give true or false, without quotes"
		daily    = "daily_limit is not a whole number greater than zero; give one, without quotes, or leave the field out"
		expiry   = "expires is neither a day nor a time; give a day such as 2027-01-31, at whose end the key expires, or a time such as 2027-01-31T12:00:00Z"
		rule     = "this is not a path rule; give a path such as /crm/v3/objects/contacts, without escapes and without a slash at its end"
		paths    = "; give a list, such as [/crm/v3/objects/contacts], or leave paths out to allow all"
		aKey     = "the key is not a mapping; write it as FIELD: VALUE, with the fields key, key_sha256, expires"
		client   = "clients: [{name: a, key: hap_x, portals: [1]"
	)
	foreign := func(kind string) string {
		return "a YAML " + kind + ` is not allowed in a seed file; write the value itself, in quotes if it begins with such a character, as in "*"`
	}
	for _, test := range []struct{ content, want string }{
		{"", empty}, {" \n\n", empty}, {"# nothing\n", empty}, {"---\n", empty}, {"null", empty}, {"\ufeff", empty},
		{"- a", "1:1 " + noFile}, {"a", "1:1 " + noFile}, {`["a"]`, "1:1 " + noFile}, {"\n 5", "2:2 " + noFile},
		{"{}\n---\n{}", "2:1" + second}, {"portals: []\n...\nportals: []", "3:1" + second},

		{"portals:\n  - id: \"1\n", "2:9" + syntax}, {"portals: [", "1:10" + syntax}, {"portals:\n\t- id: 1", "2:1" + syntax},
		{"portals: @x", "1:10" + syntax}, {"portals: []\nclients", "2:1" + syntax}, {"a: b: c", "1:4" + syntax},
		{"portals: []\nclients: \xff", "2:10 the file is not UTF-8 from here on; save it as UTF-8"},
		{"\xff\xfep\x00", "1:1 the file is not UTF-8 from here on; save it as UTF-8"},
		{strings.Repeat("[", 1<<18), "1:33" + deep}, {strings.Repeat("- ", 1<<19), "1:67" + deep},
		{strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), "1:161" + deep},
		{"portals: [*]", "1:11 " + foreign("alias (*)")}, {"portals:\n- *a", "2:3 " + foreign("alias (*)")},
		{"portals: &a []\nclients: *a", "1:10 " + foreign("anchor (&)") + "\n2:10 " + foreign("alias (*)")},
		{"portals: !!seq []", "1:10 " + foreign("tag (!)")}, {"<<: {}", "1:1 " + foreign("merge key (<<)")},
		{"? portals\n: []", "1:1 " + foreign("complex key (?)")}, {"%YAML 1.2\n---\n{}", "1:1 " + foreign("directive (%)")},

		{"portal: []", `1:1 the file has an unknown field, "portal"; the fields are portals, clients`},
		{"portals: []\nclients: []\nportals: []", "3:1 portals is given twice, first on line 1; " + one},
		{"1: []", "1:1 the file has an unknown field (not shown, because it may be a secret); the fields are portals, clients"},
		{"portals:", "1:1 " + portals}, {"portals: {}", "1:10 " + portals}, {"portals: 1", "1:10 " + portals},
		{"portals:\n  - 62515", "2:5 " + noPortal}, {"portals: [[]]", "1:11 " + noPortal}, {"portals:\r\n  - a\r\n  - b", "2:5 " + noPortal + "\n3:5 " + noPortal},
		{"portals:\n  - name: a\n    api_key: k", "2:5 the portal has no id; give its Hub ID, such as id: 62515"},
		{"portals:\n  - id: 1", "2:5 the portal has no credential; give one of refresh_token, access_token, api_key"},
		{"portals: [{api_key: k, id: 1, access_token: t}]", "1:31 access_token is given beside api_key; " + one},
		{"portals: [{id: 1, api_key: k, api_key: k}]", "1:31 api_key is given twice, first on line 1; " + one},
		{"portals: [{id: 1, api_key: a b, access_token: c d, name: \"\\t\"}]", "1:28 api_key" + char + "\n1:33 access_token is given beside api_key; " + one + "\n1:47 access_token" + char + "\n1:58 " + printed},
		{"portals: [{id: x, id: 0, api_key: a b, api_key: c d, name: n, name: 5}]", "1:16 " + id + "\n1:19 id is given twice, first on line 1; " + one + "\n1:23 " + id + "\n1:35 api_key" + char +
			"\n1:40 api_key is given twice, first on line 1; " + one + "\n1:49 api_key" + char + "\n1:63 name is given twice, first on line 1; " + one + "\n1:69 name" + isText},
		{"portals: [{id: 1, api_key: a b}]\nportals: [{id: 2, api_key: a b}]", "1:28 api_key" + char + "\n2:1 portals is given twice, first on line 1; " + one + "\n2:28 api_key" + char},
		{"portals: [{id: 1, api_key: k, acess_token: t}]", `1:31 the portal has an unknown field, "acess_token"; the fields are id, name, refresh_token, access_token, api_key`},
		{"portals:\n- {id: 1, api_key: k}\n- {id: \"1\", api_key: k}", "3:8 portal 1 is given twice, first on line 2; " + one},
		{"portals: [{id: 0, api_key: k}, {id: 1.5, api_key: k}, {id: -1, api_key: k}, {id: x, api_key: k}, {id: [1], api_key: k}]",
			"1:16 " + id + "\n1:37 " + id + "\n1:60 " + id + "\n1:82 " + id + "\n1:103 " + id},
		{"portals: [{id: 012, api_key: k}, {id: 1_0, api_key: k}, {id: 0x1, api_key: k}, {id: 1e3, api_key: k}, {id: 12345678901234567890, api_key: k}]",
			"1:16 " + id + "\n1:39 " + id + "\n1:62 " + id + "\n1:85 " + id + "\n1:108 " + id},
		{"portals: [{id: null, api_key: k}, {id: true, api_key: k}]", "1:12 " + id + "\n1:40 " + id},
		{"portals:\n- id: 1\n  api_key: 12\n- id: 2\n  api_key:\n- id: 3\n  api_key: ''", "3:12 api_key" + isText + "\n5:3 api_key" + isText + "\n7:12 api_key" + isEmpty},
		{"portals:\n- id: 1\n  api_key: a b\n- id: 2\n  refresh_token: |\n    r\n- id: 3\n  access_token: \"a\\n\"\n- id: 4\n  api_key: ä",
			"3:12 api_key" + char + "\n5:18 refresh_token" + char + "\n8:17 access_token" + char + "\n10:12 api_key" + char},
		{"portals: [{id: 1, api_key: k, name: \"a\\tb\"}, {id: 2, api_key: k, name: 5}]", "1:37 " + printed + "\n1:72 name" + isText},

		{"clients: [a]", "1:11 " + noClient}, {"clients: {}", "1:10 clients is not a list; give a list, such as [{name: billing, key_sha256: …, portals: [62515]}]"},
		{"clients:\n- key: hap_x\n  portals: [1]", "2:3 the client has no name; give one, such as name: billing"},
		{"clients:\n- {name: a, key: hap_x, portals: [1]}\n- {name: a, key: hap_y, portals: [1]}", "3:10 the client's name is given twice, first on line 2; give each client a name of its own"},
		{"clients: [{name: \"a\\x07\", key: hap_x, portals: [1]}]", "1:18 " + cname}, {"clients: [{name: \"\", key: hap_x, portals: [1]}]", "1:18 name" + isEmpty},
		{"clients:\n- {name: a, key_sha256: " + hash + ", portals: [1]}\n- {name: b, key: hap_x, key_sha256: " + hash + ", portals: [1]}", "3:25 key_sha256 is given beside key; " + one},
		{"clients:\n- {name: a, portals: [1], key: hap_x}\n- {name: b, key: hap_x, portals: [1]}", "3:13 the key is given twice, first on line 2; give each client a key of its own"},
		{"clients: [{name: a, portals: [1]}]", "1:11 the client has no key; give one of key_sha256, key"},
		{"clients: [{name: a, key_sha256: " + strings.ToUpper(hash) + ", portals: [1]}]", "1:33 " + sha}, {"clients: [{name: a, key_sha256: abc, portals: [1]}]", "1:33 " + sha},
		{"clients: [{name: a, key: x, portals: [1]}, {name: b, key: hap_, portals: [1]}, {name: c, key: hap_ä, portals: [1]}]", "1:26 " + hap + "\n1:59 " + hap + "\n1:95 key" + char},
		{"clients: [{name: a, key: hap_x}]", "1:11 the client has no portals" + ids}, {"clients: [{name: a, key: hap_x, portals: []}]", "1:42 portals is empty" + ids},
		{"clients: [{name: a, key: hap_x, portals: \"*\"}]", "1:42 " + list}, {"clients:\n- name: a\n  key: hap_x\n  portals:", "4:3 " + list},
		{"clients: [{name: a, key: hap_x, portals: [\"*\", 1]}]", "1:43 " + all},
		{"clients: [{name: a, key: hap_x, portals: [1, 01, x, [2], null, 1]}]", "1:46 " + listed + "\n1:50 " + listed + "\n1:53 " + listed + "\n1:58 " + listed + "\n1:64 this portal is given twice, first on line 1; " + one},
		{client + ", daily_limit: 0}]", "1:60 " + daily}, {client + ", daily_limit: -1}]", "1:60 " + daily}, {client + ", daily_limit: 1.5}]", "1:60 " + daily}, {client + `, daily_limit: "5"}]`, "1:60 " + daily}, {client + ", daily_limit: 99999999999999999999}]", "1:60 " + daily}, {client + ", daily_limit: [1]}]", "1:60 " + daily},
		{client + ", expires: 1}]", "1:56 expires is not text; give text, in quotes if it looks like something else"}, {client + ", expires: soon}]", "1:56 " + expiry}, {client + ", expires: 2027-02-30}]", "1:56 " + expiry},
		{client + ", paths: /a}]", "1:54 paths is not a list" + paths}, {client + ", paths: []}]", "1:54 paths is empty" + paths},
		{client + ", paths: [/a, b, /c/, [d], /e%20]}]", "1:59 " + rule + "\n1:62 " + rule + "\n1:67 " + rule + "\n1:72 " + rule},
		{client + ", keys: []}]", "1:47 keys is given beside key; " + one + "\n1:53 keys is empty; give a list, such as [{key_sha256: 9f86d0…}]"},
		{"clients:\n- name: a\n  portals: [1]\n  keys:\n  - expires: 2027-01-31\n  - key: hap_x\n  - key: hap_x\n  - hap_y", "5:5 the key has no key; give one of key_sha256, key\n7:5 the key is given twice, first on line 6; give each client a key of its own\n8:5 " + aKey},
		{"clients: [{name: a, portals: [1], key: x, key_sha256: y, expires: soon, keys: [{key: x, key_sha256: y}]}]", "1:40 " + hap + "\n1:43 key_sha256 is given beside key; " + one + "\n1:55 " + sha + "\n1:58 expires is given beside keys; give it in the entries of keys\n1:67 " + expiry +
			"\n1:73 keys is given beside key; " + one + "\n1:86 " + hap + "\n1:89 key_sha256 is given beside key; " + one + "\n1:101 " + sha},
		{"clients: [{name: a, key: hap_x, portals: [x], portals: [y], paths: [b], paths: [c]}]", "1:43 " + listed + "\n1:47 portals is given twice, first on line 1; " + one + "\n1:57 " + listed + "\n1:69 " + rule + "\n1:73 paths is given twice, first on line 1; " + one + "\n1:81 " + rule},
		{client + ", read_only: yes}]", "1:58 " + truth}, {client + ", read_only: \"true\"}]", "1:58 " + truth},
		{"{\n\t\"portals\": [\n\t\t{\"id\": 1}\n\t]\n}", "3:3 the portal has no credential; give one of refresh_token, access_token, api_key"},
	} {
		t.Run(test.content[:min(len(test.content), 80)], func(t *testing.T) {
			got, err := seeding.Parse([]byte(test.content))
			if diff := cmp.Diff(placed(test.want), fmt.Sprint(err)); diff != "" {
				t.Error(diff)
			}
			if len(got.Portals)+len(got.Clients) > 0 {
				t.Errorf("seed %v", got)
			}
		})
	}
}

func TestAllFaultsOfASeedAreReportedTogetherInTheOrderOfTheFile(t *testing.T) {
	_, err := seeding.Parse([]byte("clients:\n- {key: x, portals: [y]}\nportals:\n- {id: 0, name: \"\\n\"}\n- 7\nother: 1\n"))
	var got []string
	for line := range strings.SplitSeq(fmt.Sprint(err), "\n") {
		got = append(got, strings.TrimPrefix(line[:strings.Index(line, ";")], "SEED_FILE: "))
	}
	want := []string{
		"line 2, column 3: the client has no name",
		"line 2, column 9: key does not begin with hap_, or has nothing after it",
		"line 2, column 22: this is not a portal id",
		"line 4, column 3: the portal has no credential",
		"line 4, column 8: id is not a portal id",
		"line 4, column 17: name has a line break or another character that is not printable",
		"line 5, column 3: the portal is not a mapping",
		`line 6, column 1: the file has an unknown field, "other"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// spoil are faulty seeds with a secret at each %s.
var spoil = []string{
	"%s", "- %s", "%s: %s", "portals: %s", "portals: [%s]", "portals: [{%s: 1}]", "portals: [{id: %s, name: %s, api_key: %s, %s: %s}]",
	"portals: [{id: 1, refresh_token: %s, access_token: %s, api_key: %s}]", "portals:\n - id: 1\n   api_key: \"%s\n", "portals:\n - id: 1\n   api_key: '%s' x",
	"portals: [{id: 1, api_key: a %s}]", "portals: [{id: 1, api_key: \"%s\\n\"}]", "portals: [{id: 1, api_key: \"%s\\q\"}]", "portals: [{id: 1, api_key: @%s}]",
	"portals: [{id: 1, api_key: *%s}]", "portals: [{id: 1, api_key: &%s 1}]", "portals: [{id: 1, api_key: !%s 1}]", "portals:\n - id: 1\n  api_key: %s", "portals:\n - id: 1\n\tapi_key: %s",
	"portals: [{id: 1, api_key: %s, api_key: %s}]", "portals: [{id: 1, api_key: [%s]}]", "portals: [{id: 1, api_key: {%s: %s}}]", "portals: [{id: 1, %s, %s: 1}]", "%%%s\n---\n{}",
	"clients: [{name: %s, key: %s, key_sha256: %s, portals: [%s], read_only: %s}]", "clients: [{name: %s, key: hap_%s, portals: [1]}, {name: %s, key: hap_%s, portals: [1]}]",
	"clients: %s", "clients: [{name: a, portals: %s}]", "{\"portals\": [{\"id\": 1, \"api_key\": \"%s\" \"%s\"}]}", "{\"portals\": [{\"id\": 1, \"api_key\": \"%s", "portals: [{id: 1, api_key: %s}]\n\xff", "{}\n---\n%s", "? %s\n: %s",
}

func TestNoFaultOfASeedShowsASecret(t *testing.T) {
	for _, content := range spoil {
		if err := parse(t, []byte(strings.ReplaceAll(strings.ReplaceAll(content, "%s", canary), "%%", "%"))); err == nil {
			t.Errorf("%q is no fault", content)
		}
	}
}

// parse returns the faults that Parse reports. The test fails if the error shows the canary, or has a
// fault that is not one line.
func parse(t *testing.T, content []byte) config.Faults {
	t.Helper()
	_, faults := seeding.Parse(content)
	if faults == nil {
		return nil
	}
	if strings.Count(faults.Error(), "\n") != len(faults)-1 {
		t.Errorf("%q: not one line for each fault:\n%v", content, faults)
	}
	if strings.Contains(strings.ToLower(faults.Error()), canary) {
		t.Errorf("%q shows the secret:\n%v", content, faults)
	}
	return faults
}

func FuzzParse(f *testing.F) {
	for _, content := range append(spoil, seedYAML, seedJSON, "portals: &a []\nclients: *a", "<<: {}", "a:\r b\r\n c: |\n  d", "[[[[", "- - - ? :") {
		f.Add([]byte(strings.ReplaceAll(content, "%s", canary)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		_ = parse(t, content)
		_ = parse(t, bytes.ReplaceAll(content, []byte("1"), []byte(canary)))
	})
}

// allocated returns how many bytes do allocates. That is at least what it uses at once.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestASeedOfCommentsTakesNoMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		content string
		problem string
	}{
		"long":       {strings.Repeat("# "+strings.Repeat("x", 98)+"\n", 4<<20/101) + "{}", ""},
		"one":        {"#" + strings.Repeat("x", 4<<20-10) + "\n{}", ""},
		"empty ones": {strings.Repeat("#\n", 2<<20-10) + "{}", "comments"},
		"behind":     {"portals:\n" + strings.Repeat("- id: 1 #\n", 400_000), "comments"},
		"list":       {"portals: [" + strings.Repeat("1,", 2<<20-10) + "]", "commas"},
		"brackets":   {"portals: [" + strings.Repeat("[],", 1<<20) + "]", "brackets"},
	} {
		var err config.Faults
		took := allocated(func() { _, err = seeding.Parse([]byte(tt.content)) })
		if took > 200<<20 {
			t.Errorf("%s: %d MiB were allocated", name, took>>20)
		}
		if tt.problem == "" && err != nil || tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestAtMostAHundredFaultsOfASeedAreReported(t *testing.T) {
	_, err := seeding.Parse([]byte("portals: [" + strings.Repeat("1,", 100_000) + "1]"))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 101 || !strings.Contains(lines[100], "has more faults than these") {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}
