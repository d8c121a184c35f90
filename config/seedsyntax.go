package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is how deep a seed file may be nested: a portal in a client's list
// is at depth 4. The parser calls itself for each level, and has no limit.
const maxDepth = 32

// maxMarks is how many of YAML's marks a seed file may have, those that begin a
// comment too: each takes several hundred bytes while the file is read, because
// the scanner returns all at once. A portal has eight at most.
const maxMarks = 300_000

// maxFaults is how many faults of a file are reported.
const maxFaults = 100

// A seedParser reads one file, and collects what is wrong with it. It goes
// through the syntax tree itself, instead of decoding into structs, so that it
// can tell all faults at once, and in words of its own: the library's errors
// quote the file, which is full of secrets.
type seedParser struct {
	faults []placedFault
}

// A place is a line and a column, both counted from 1.
type place struct{ line, column int }

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.line, other.line), cmp.Compare(p.column, other.column))
}

type placedFault struct {
	place
	problem, remedy string
}

func (p *seedParser) fault(at place, problem, remedy string) {
	switch {
	case len(p.faults) < maxFaults:
		p.faults = append(p.faults, placedFault{at, problem, remedy})
	case len(p.faults) == maxFaults:
		p.faults = append(p.faults, placedFault{at, "there are more faults", "mend those that are told first"})
	}
}

// sorted returns the faults in the order of the file.
func (p *seedParser) sorted() Faults {
	slices.SortStableFunc(p.faults, func(a, b placedFault) int { return a.compare(b.place) })
	var all Faults
	for _, f := range p.faults {
		all = append(all, Fault{seedFile, fmt.Sprintf("line %d, column %d: %s", f.line, f.column, f.problem), f.remedy})
	}
	return all
}

const checkSyntax = "look there and just before it for a quote, bracket, colon or comma too few or too many, or a line that is indented otherwise than its neighbours"

// parse returns the root of the file's one document, or nothing if there is a
// fault. A panic of the parser is a fault too: its message may have a secret.
func (p *seedParser) parse(content []byte) (root ast.Node) {
	defer func() {
		if recover() != nil {
			p.fault(place{1, 1}, "the file cannot be read as YAML or JSON", "write it more plainly")
			root = nil
		}
	}()
	text, ok := p.plain(content)
	if !ok {
		return nil
	}
	tokens := p.scan(text)
	if len(p.faults) > 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // doubled keys are told with the rest
	if err != nil {
		p.refuseSyntax(err)
		return nil
	}
	return p.document(file)
}

// plain returns content as the parser counts its columns right: without a byte
// order mark, carriage returns, or the tabs that may indent JSON.
func (p *seedParser) plain(content []byte) (string, bool) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	marks := 0
	for at, rest := (place{1, 1}), content; len(rest) > 0; at.column++ {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			p.fault(at, "the file is not UTF-8 from here on", "save it as UTF-8")
			return "", false
		}
		switch r {
		case '\n':
			at = place{at.line + 1, 0}
		case '#', ',', '[', ']', '{', '}', ':':
			if marks++; marks > maxMarks {
				p.fault(at, fmt.Sprintf("the file has more than %d comments, commas, colons, brackets and braces before this place", maxMarks), tooLarge)
				return "", false
			}
		}
		rest = rest[size:]
	}
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	if json.Valid(content) { // within strings it has no tabs
		content = bytes.ReplaceAll(content, []byte("\t"), []byte(" "))
	}
	return string(content), true
}

// foreign is the syntax that a seed file has no use for. Without aliases no
// small file can become a large one.
var foreign = map[token.Type]string{
	token.AliasType:      "alias (*)",
	token.AnchorType:     "anchor (&)",
	token.DirectiveType:  "directive (%)",
	token.MappingKeyType: "complex key (?)",
	token.MergeKeyType:   "merge key (<<)",
	token.TagType:        "tag (!)",
}

// scan returns the file's tokens, or as many as there are before one that must
// not reach the parser. That is then a fault.
func (p *seedParser) scan(text string) token.Tokens {
	var (
		s      scanner.Scanner
		tokens token.Tokens
		nested nesting
	)
	s.Init(text)
	for {
		some, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return tokens
		}
		for _, t := range some {
			if t.Type == token.CommentType {
				continue // they mean nothing, and would take more memory than the file
			}
			tokens.Add(t)
			switch kind := foreign[t.Type]; {
			case kind != "":
				p.fault(placeOf(t), "there is a YAML "+kind+", and this file may have none", `write the value itself, in quotes if it begins so, such as "*"`)
			case t.Type == token.InvalidType:
				p.fault(placeOf(t), "this is neither YAML nor JSON", checkSyntax)
				return nil
			case nested.add(t) > maxDepth:
				p.fault(placeOf(t), "the file is nested too deep", "write portals and clients, and no lists or mappings within their values")
				return nil
			}
		}
		if err != nil { // it has given a token for it, so this is not reached
			p.fault(place{1, 1}, "this is neither YAML nor JSON", checkSyntax)
			return nil
		}
	}
}

// nesting measures how deep a file is nested, roughly: in brackets by their
// number, outside of them by how far the - or key is indented that begins a
// level.
type nesting struct{ brackets int }

func (n *nesting) add(t *token.Token) int {
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.brackets++
	case token.SequenceEndType, token.MappingEndType:
		n.brackets = max(n.brackets-1, 0)
	case token.SequenceEntryType:
		if n.brackets == 0 {
			return (t.Position.Column - 1) / 2
		}
	case token.MappingValueType:
		if n.brackets == 0 && t.Prev != nil {
			return (t.Prev.Position.Column - 1) / 2
		}
	}
	return n.brackets
}

// refuseSyntax tells where the parser stopped, but not in its words.
func (p *seedParser) refuseSyntax(err error) {
	at := place{1, 1}
	if known := yaml.Error(nil); errors.As(err, &known) {
		at = placeOf(known.GetToken())
	}
	p.fault(at, "this is neither YAML nor JSON", checkSyntax)
}

func (p *seedParser) document(file *ast.File) ast.Node {
	for i, doc := range file.Docs {
		if i > 0 {
			at := place{1, 1}
			if doc.Start != nil {
				at = placeOf(doc.Start)
			} else if doc.Body != nil {
				at = start(doc.Body)
			}
			p.fault(at, "a second document begins", "put all into one, without a line of --- or ... between")
		}
	}
	if len(p.faults) > 0 {
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.NullType {
		p.fault(place{1, 1}, "the file is empty, as one is that was cut short", "write {} to seed nothing, or unset SEED_FILE")
		return nil
	}
	return file.Docs[0].Body
}

// placeOf returns where a token begins.
func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// start returns where a node begins: a mapping without braces at its first key.
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
