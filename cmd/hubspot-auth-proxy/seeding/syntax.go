package seeding

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"

	"hubspot-auth-proxy/config"
)

// seedFile is the variable that names the file, and the name in all faults of the file.
const seedFile = "SEED_FILE"

// maxDepth is how deep a seed file may be nested; a portal in a client's list is at depth 4.
// The YAML parser recurses for each level, and has no limit of its own.
const maxDepth = 32

// maxMarks is how many characters of YAML's syntax a seed file may have, including those
// that begin a comment. Each of them costs several hundred bytes of memory, because the
// scanner returns all tokens at once. A portal has eight at most.
const maxMarks = 300_000

// maxFaults is how many faults of a file are reported.
const maxFaults = 100

// A reader reads one file and collects its faults. It walks the syntax tree. A decoder of
// structs would return only the first fault, and its errors quote the file, which contains
// secrets.
type reader struct {
	faults   []fault
	brackets int // the number of brackets that are open after the tokens read so far

	short     bool     // whether the client that is being read has a short key
	shortKeys []string // the names of the clients with a short key
}

// A place is a line and a column, both counted from 1.
type place struct{ line, column int }

type fault struct {
	place
	problem, remedy string
}

// fault adds a fault, unless the reader has more than maxFaults already. The one above
// maxFaults shows that there are more.
func (r *reader) fault(at place, problem, remedy string) {
	if len(r.faults) <= maxFaults {
		r.faults = append(r.faults, fault{at, problem, remedy})
	}
}

// sorted returns the faults in the order of the file.
func (r *reader) sorted() (all config.Faults) {
	found := r.faults[:min(len(r.faults), maxFaults)]
	slices.SortStableFunc(found, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	for _, f := range found {
		all = append(all, config.Fault{Name: seedFile, Problem: fmt.Sprintf("line %d, column %d: %s", f.line, f.column, f.problem), Remedy: f.remedy})
	}
	if len(r.faults) > maxFaults {
		all = append(all, config.Fault{Name: seedFile, Problem: "has more faults than these", Remedy: "fix the faults above first"})
	}
	return all
}

// badSyntax adds the fault of a file that the scanner or the parser cannot read.
func (r *reader) badSyntax(at place) {
	r.fault(at, "this is neither YAML nor JSON", "check this place and the text before it for a missing or extra quote, bracket, colon or comma, and for a line that is indented differently from its neighbours, or by a tab")
}

// parse returns the root of the file's only document, or nil if there is a fault. A panic
// of the YAML parser is a fault too; its message is dropped, because it may contain a secret.
func (r *reader) parse(content []byte) (root ast.Node) {
	defer func() {
		if recover() != nil {
			r.fault(place{1, 1}, "the file cannot be read as YAML or JSON", "write it in a simpler form, as in the example of config/README.md")
			root = nil
		}
	}()
	tokens := r.scan(r.normalize(content))
	if len(r.faults) > 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // mapping reports these with the other faults
	if err != nil {
		at := place{1, 1}
		if known, ok := errors.AsType[yaml.Error](err); ok {
			at = placeOf(known.GetToken())
		}
		r.badSyntax(at)
		return nil
	}
	return r.document(file)
}

// normalize returns content without a byte order mark, carriage returns, and the tabs that
// may indent JSON. The YAML parser would count columns wrongly with them. If there is a
// fault, normalize returns "".
func (r *reader) normalize(content []byte) string {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	if json.Valid(content) { // its strings have no tabs
		content = bytes.ReplaceAll(content, []byte("\t"), []byte(" "))
	}
	text, at, marks := string(content), place{1, 1}, 0
	for i, c := range text {
		switch c {
		case utf8.RuneError:
			if !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
				r.fault(at, "the file is not UTF-8 from here on", "save it as UTF-8")
				return ""
			}
		case '\n':
			at = place{at.line + 1, 0}
		case '#', ',', '[', ']', '{', '}', ':':
			if marks++; marks > maxMarks {
				r.fault(at, fmt.Sprintf("the file has more than %d comments, commas, colons, brackets and braces before this place", maxMarks), config.ShortenSeed)
				return ""
			}
		}
		at.column++
	}
	return text
}

// foreign is the syntax that a seed file may not use. Without aliases no small file can
// expand into a large one.
var foreign = map[token.Type]string{
	token.AliasType:      "alias (*)",
	token.AnchorType:     "anchor (&)",
	token.DirectiveType:  "directive (%)",
	token.MappingKeyType: "complex key (?)",
	token.MergeKeyType:   "merge key (<<)",
	token.TagType:        "tag (!)",
}

// scan returns the file's tokens. A token that must not reach the YAML parser is a fault.
func (r *reader) scan(text string) (tokens token.Tokens) {
	var s scanner.Scanner
	s.Init(text)
	for {
		some, err := s.Scan()
		for _, t := range some {
			if t.Type == token.CommentType {
				continue // the YAML parser would keep it, which takes more memory than the file
			}
			tokens.Add(t)
			switch kind := foreign[t.Type]; {
			case kind != "":
				r.fault(placeOf(t), "a YAML "+kind+" is not allowed in a seed file", `write the value itself, in quotes if it begins with such a character, as in "*"`)
			case t.Type == token.InvalidType:
				r.badSyntax(placeOf(t))
				return nil
			case r.depth(t) > maxDepth:
				r.fault(placeOf(t), "the file is nested too deeply", "write portals and clients, without lists or mappings within their values")
				return nil
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) { // the scanner has also returned an invalid token, so this is not reached
				r.badSyntax(place{1, 1})
			}
			return tokens
		}
	}
}

// depth estimates how deep the file is nested at the token t. Within brackets, the depth is
// the number of open brackets. Outside of brackets, the depth follows from the column of
// the - or key that begins a level.
func (r *reader) depth(t *token.Token) int {
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		r.brackets++
	case token.SequenceEndType, token.MappingEndType:
		r.brackets = max(r.brackets-1, 0)
	case token.SequenceEntryType, token.MappingValueType:
		if t.Type == token.MappingValueType && t.Prev != nil {
			t = t.Prev // the key before the colon
		}
		if r.brackets == 0 {
			return (t.Position.Column - 1) / 2
		}
	}
	return r.brackets
}

// document returns the root of the file's only document. An empty file is a fault, because
// a file that was cut short while it was written would otherwise revoke every client's key.
func (r *reader) document(file *ast.File) ast.Node {
	if len(file.Docs) > 1 {
		second := file.Docs[1]
		at := placeOf(second.Start)
		if second.Start == nil && second.Body != nil {
			at = start(second.Body)
		}
		r.fault(at, "a second YAML document begins here", "put everything into one document, without lines of --- or ... in between")
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.NullType {
		r.fault(place{1, 1}, "the file is empty", "write {} for a seed without portals and clients, or unset SEED_FILE")
		return nil
	}
	return file.Docs[0].Body
}

// placeOf returns where a token begins; line 1, column 1 if that is not known.
func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// start returns where a node begins. A mapping without braces begins at its first key.
func start(node ast.Node) place {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key.GetToken())
	}
	return placeOf(node.GetToken())
}
