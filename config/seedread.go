package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"hubspot-auth-proxy/tokens/secret"
)

// A field is one key of a mapping, and its value.
type field struct {
	name  string
	at    place // of the key
	value ast.Node
}

// Where a value is told to be wrong: an absent one, at its key.
func (f field) place() place {
	if f.value.Type() == ast.NullType {
		return f.at
	}
	return start(f.value)
}

// fields is a mapping whose keys are known, each there once.
type fields struct {
	at   place
	list []field
}

func (f fields) find(name string) (field, bool) {
	i := slices.IndexFunc(f.list, func(field field) bool { return field.name == name })
	if i < 0 {
		return field{}, false
	}
	return f.list[i], true
}

// among returns those fields that are called by one of names.
func (f fields) among(names ...string) []field {
	return slices.DeleteFunc(slices.Clone(f.list), func(field field) bool { return !slices.Contains(names, field.name) })
}

// likeAKey matches what can be quoted as a key that is not known. Tokens, which
// may stand in a key's place by mistake, are longer or have digits.
var likeAKey = regexp.MustCompile(`^[A-Za-z_-]{1,24}$`)

// mapping returns the fields of node. Keys that are not among names, or that
// are there already, are faults.
func (p *seedParser) mapping(node ast.Node, what string, names ...string) (fields, bool) {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		p.fault(start(node), what+" is not a mapping", "give it as KEY: VALUE, with the keys "+strings.Join(names, ", "))
		return fields{}, false
	}
	all := fields{at: start(node)}
	for _, value := range values {
		name, at := keyName(value.Key), placeOf(value.Key.GetToken())
		first, doubled := all.find(name)
		switch {
		case !slices.Contains(names, name) && likeAKey.MatchString(name):
			p.fault(at, quote(name)+" is not a key of "+what, "give one of "+strings.Join(names, ", "))
		case !slices.Contains(names, name):
			p.fault(at, "this is not a key of "+what+" (not shown, as it may be a secret)", "give one of "+strings.Join(names, ", "))
		case doubled:
			p.fault(at, fmt.Sprintf("%s is given twice, first on line %d", name, first.at.line), "keep one of them")
		default:
			all.list = append(all.list, field{name, at, value.Value})
		}
	}
	return all, true
}

// keyName returns a key's text, which for one that is not text is no known one.
func keyName(key ast.MapKeyNode) string {
	if text, ok := key.(*ast.StringNode); ok {
		return text.Value
	}
	return ""
}

// sequence returns the elements of the list that a mapping has under name. A
// mapping without it gives nothing. The example is of a right one.
func (p *seedParser) sequence(in fields, name, example string) []ast.Node {
	f, ok := in.find(name)
	if !ok {
		return nil
	}
	list, ok := f.value.(*ast.SequenceNode)
	if !ok {
		p.fault(f.place(), name+" is not a list", "give a list, such as "+example)
		return nil
	}
	return list.Values
}

// text returns a field that is text, or nothing and why. A missing one is
// nothing too, and no fault.
func (p *seedParser) text(in fields, name string) (text string, at place, ok bool) {
	f, found := in.find(name)
	if !found {
		return "", in.at, false
	}
	switch n := f.value.(type) {
	case *ast.StringNode:
		text, ok = n.Value, true
	case *ast.LiteralNode:
		text, ok = n.Value.Value, true
	}
	switch {
	case !ok:
		p.fault(f.place(), name+" is not text", "give text, in quotes if it looks like something else")
	case text == "":
		p.fault(f.place(), name+" is empty", "give its value, or leave the key out")
		ok = false
	}
	return text, f.place(), ok
}

// credential returns a field that is a secret which goes into a header.
func (p *seedParser) credential(in fields, name string) (secret.Text, place) {
	text, at, ok := p.text(in, name)
	if ok && secret.HeaderUnsafe(text) >= 0 {
		p.fault(at, name+" has a space, a line break or another character that no credential has", "copy it again, and nothing around it")
	}
	return secret.New(text), at
}

// flag returns a field that is true or false. A missing one is false.
func (p *seedParser) flag(in fields, name string) bool {
	f, found := in.find(name)
	if !found {
		return false
	}
	value, ok := f.value.(*ast.BoolNode)
	if !ok {
		p.fault(f.place(), name+" is neither true nor false", "give one of them, without quotes")
		return false
	}
	return value.Value
}

// number returns a field that is a whole number from 1 on. A missing one is 0.
func (p *seedParser) number(in fields, name string) int64 {
	f, found := in.find(name)
	if !found {
		return 0
	}
	n, err := strconv.ParseInt(scalar(f.value), 10, 64)
	if _, isNumber := f.value.(*ast.IntegerNode); !isNumber || err != nil || n < 1 {
		p.fault(f.place(), name+" is not a whole number from 1 on", "give one, without quotes, or leave the key out")
		return 0
	}
	return n
}

// scalar returns the text of a number as it stands in the file, for a number's
// value could have lost digits, and of text. Else it returns nothing.
func scalar(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.IntegerNode:
		return n.GetToken().Value
	}
	return ""
}
