package seeding

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A value is the value of a field, or an element of a list. A value without a node stands
// for a field that the mapping does not have.
type value struct {
	node ast.Node
	name string // what faults call it: the field's name, or "this"
	key  place  // of the field's name, or of the element
}

// place returns where a fault of the value is reported: at the value, or at the field's
// name if there is no value.
func (v value) place() place {
	if v.node == nil || v.node.Type() == ast.NullType {
		return v.key
	}
	return start(v.node)
}

// A mapping has the known fields of a YAML mapping, in the order of the file. A field that
// is given twice is in the mapping twice. A function that reads a mapping reads every field,
// so that the faults of all are reported together. It reads the last field first: of several
// fields for the same thing, the first one is kept.
type mapping struct {
	what   string // what faults call it, such as "the portal"
	at     place
	fields []value
}

// field returns the value of a field, which has no node if the mapping does not have it.
func (m mapping) field(name string) value {
	if i := slices.IndexFunc(m.fields, func(v value) bool { return v.name == name }); i >= 0 {
		return m.fields[i]
	}
	return value{}
}

// seen has the line on which each value was first given.
type seen map[string]int

// once adds a fault at the place at if the text was given before. The empty text may be
// repeated, because it stands for a value that has a fault already.
func (r *reader) once(given seen, text string, at place, what, remedy string) {
	line, twice := given[text]
	switch {
	case text == "":
	case twice:
		r.fault(at, fmt.Sprintf("%s is given twice, first on line %d", what, line), remedy)
	default:
		given[text] = at.line
	}
}

// likeAName matches the unknown field names that a fault may quote. A token that was
// written in place of a name is longer, or has digits.
var likeAName = regexp.MustCompile(`^[A-Za-z_-]{1,24}$`)

// mapping returns the fields of node that are among names. Other fields, and fields that
// are given twice, are faults.
func (r *reader) mapping(node ast.Node, what string, names ...string) (m mapping, ok bool) {
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		r.fault(start(node), what+" is not a mapping", "write it as FIELD: VALUE, with the fields "+strings.Join(names, ", "))
		return mapping{}, false
	}
	m, given := mapping{what: what, at: start(node)}, seen{}
	for _, entry := range entries {
		name, at := "", placeOf(entry.Key.GetToken())
		if text, ok := entry.Key.(*ast.StringNode); ok {
			name = text.Value
		}
		if !slices.Contains(names, name) {
			shown := " (not shown, because it may be a secret)"
			if likeAName.MatchString(name) {
				shown = ", " + strconv.Quote(name)
			}
			r.fault(at, what+" has an unknown field"+shown, "the fields are "+strings.Join(names, ", "))
			continue
		}
		r.once(given, name, at, name, "keep one of them")
		m.fields = append(m.fields, value{entry.Value, name, at})
	}
	return m, true
}

// oneOf returns the field that has one of these names. If the mapping has none of them, or
// more than one, that is a fault, and oneOf returns the first of them. noun describes all
// these fields in the fault, such as "credential".
func (r *reader) oneOf(in mapping, noun, remedy string, names ...string) (v value) {
	for _, f := range in.fields {
		switch {
		case !slices.Contains(names, f.name):
		case v.node == nil:
			v = f
		case f.name != v.name: // mapping has reported a field that is given twice
			r.fault(f.key, f.name+" is given beside "+v.name, "keep one of them")
		}
	}
	if v.node == nil {
		r.fault(in.at, in.what+" has no "+noun, remedy)
	}
	return v
}

// list returns the elements of a list. If the list has fewer than least elements, that is
// a fault.
func (r *reader) list(v value, least int, example string) (elements []value) {
	list, ok := v.node.(*ast.SequenceNode)
	switch {
	case v.node == nil:
		return nil
	case !ok:
		r.fault(v.place(), v.name+" is not a list", "give a list, such as "+example)
		return nil
	case len(list.Values) < least:
		r.fault(v.place(), v.name+" is empty", "give a list, such as "+example)
	}
	for _, node := range list.Values {
		elements = append(elements, value{node, "this", start(node)})
	}
	return elements
}

// A rule is a condition on a text, and the fault of a text that does not meet it.
type rule struct {
	meets           func(string) bool
	problem, remedy string
}

// text returns the text of a value, or "" if there is none. A value that is not text, is
// empty, or does not meet one of the rules is a fault, and text then returns "".
func (r *reader) text(v value, rules ...rule) string {
	var text string
	switch n := v.node.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	default:
		r.fault(v.place(), v.name+" is not text", "give text, in quotes if it looks like something else")
		return ""
	}
	if text == "" {
		r.fault(v.place(), v.name+" is empty", "give its value, or leave the field out")
		return ""
	}
	return r.check(v, text, rules...)
}

// word returns the text of a value that is a text or a whole number, or "" if there is
// none. A value that does not meet the rule is a fault, and word then returns "".
func (r *reader) word(v value, is rule) string {
	var word string
	switch n := v.node.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		word = n.Value
	case *ast.IntegerNode:
		word = n.GetToken().Value // as in the file, because n.Value could have lost digits
	}
	return r.check(v, word, is)
}

// check returns the text of v if it meets the rules. Otherwise check adds a fault, and
// returns "".
func (r *reader) check(v value, text string, rules ...rule) string {
	for _, is := range rules {
		if !is.meets(text) {
			r.fault(v.place(), v.name+" "+is.problem, is.remedy)
			return ""
		}
	}
	return text
}

// flag returns a value that is true or false; false if there is none.
func (r *reader) flag(v value) bool {
	flag, ok := v.node.(*ast.BoolNode)
	if v.node != nil && !ok {
		r.fault(v.place(), v.name+" is neither true nor false", "give true or false, without quotes")
	}
	return ok && flag.Value
}

// number returns a value that is a whole number greater than zero; 0 if there is none.
func (r *reader) number(v value) int64 {
	if v.node == nil {
		return 0
	}
	n, err := strconv.ParseInt(v.node.GetToken().Value, 10, 64)
	if v.node.Type() != ast.IntegerType || err != nil || n < 1 {
		r.fault(v.place(), v.name+" is not a whole number greater than zero", "give one, without quotes, or leave the field out")
	}
	return n
}
