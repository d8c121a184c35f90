package main

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// repository is the path from this package to the top of the repository.
const repository = "../.."

// files returns the paths, relative to the top, of the repository's files whose names have that
// suffix.
func files(t *testing.T, extension string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules", "testdata"}, entry.Name()):
			return fs.SkipDir
		case filepath.Ext(path) != extension:
			return nil
		}
		name, err := filepath.Rel(repository, path)
		paths = append(paths, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// documents returns the texts of the repository's Markdown files, by their paths relative to the
// top.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range files(t, ".md") {
		found[name] = read(t, filepath.Join(repository, name))
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block matches a block of code in a document, with its language.
var block = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// blocks returns the blocks of code in that language.
func blocks(text, language string) (code []string) {
	for _, found := range block.FindAllStringSubmatch(text, -1) {
		if found[1] == language {
			code = append(code, found[2])
		}
	}
	return code
}

// anchors returns the anchors of a document's headings.
func anchors(text string) (names []string) {
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	for _, found := range heading.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			default:
				return -1
			}
		}, found[1]))
	}
	return names
}

func TestLinkTargetsInDocumentsExist(t *testing.T) {
	link := regexp.MustCompile(`(?m)(?:\]\(|^\[[^\]]+\]: )([^)\s]+)`)
	pages := documents(t)
	links := 0
	for name, text := range pages {
		for _, found := range link.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
			if target, err := url.Parse(found[1]); err == nil && target.Scheme == "" {
				links++
				follow(t, pages, name, filepath.Dir(name), target)
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were found", links)
	}
}

func TestTheRunbooksOfAlertsExist(t *testing.T) {
	const alerts = "k8s/monitoring/alerts.yaml"
	pages := documents(t)
	found := regexp.MustCompile(`(?m)^ +runbook_url: RUNBOOKS/(.*)$`).FindAllStringSubmatch(read(t, filepath.Join(repository, alerts)), -1)
	if len(found) == 0 {
		t.Error("no alert names a page")
	}
	for _, one := range found {
		target, err := url.Parse(one[1])
		if err != nil || target.Fragment == "" {
			t.Errorf("%s: %q is not a page#section", alerts, one[1])
			continue
		}
		follow(t, pages, alerts, "", target)
	}
}

// follow fails the test if the target of a link, relative to the folder, does not exist.
func follow(t *testing.T, pages map[string]string, from, folder string, target *url.URL) {
	t.Helper()
	path := filepath.Join(folder, target.Path)
	if target.Path == "" {
		path = from
	}
	if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
		t.Errorf("%s: there is no %s", from, target)
		return
	}
	if target.Fragment != "" && !slices.Contains(anchors(pages[path]), target.Fragment) {
		t.Errorf("%s: %s has no heading #%s", from, path, target.Fragment)
	}
}
