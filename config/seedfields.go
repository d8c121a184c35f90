package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A field is one entry of a mapping.
type field struct {
	name  string
	at    place // of the name
	value ast.Node
}

// place returns where a fault of the value is reported: at the value, or at the name if
// there is no value.
func (f field) place() place {
	if f.value.Type() == ast.NullType {
		return f.at
	}
	return start(f.value)
}

// A mapping has the known fields of a YAML mapping, each once, in the order of the file.
type mapping struct {
	what   string // what faults call it, such as "the portal"
	at     place
	fields []field
}

func (m mapping) find(name string) (f field, found bool) {
	if i := slices.IndexFunc(m.fields, func(f field) bool { return f.name == name }); i >= 0 {
		return m.fields[i], true
	}
	return field{}, false
}

// seen has the line on which each value was first given.
type seen map[string]int

// once reports whether the value is given for the first time. A repeated value is a fault
// at the place at. The empty value may be repeated, because it stands for a value that has
// a fault already.
func (p *seedParser) once(given seen, value string, at place, what, remedy string) bool {
	line, twice := given[value]
	switch {
	case value == "":
	case twice:
		p.fault(at, fmt.Sprintf("%s is given twice, first on line %d", what, line), remedy)
	default:
		given[value] = at.line
	}
	return !twice
}

// likeAName matches the unknown field names that a fault may quote. A token that was
// written in place of a name is longer, or has digits.
var likeAName = regexp.MustCompile(`^[A-Za-z_-]{1,24}$`)

// mapping returns the fields of node that are among names. Other fields, and fields that
// are given twice, are faults.
func (p *seedParser) mapping(node ast.Node, what string, names ...string) (m mapping, ok bool) {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		p.fault(start(node), what+" is not a mapping", "write it as FIELD: VALUE, with the fields "+strings.Join(names, ", "))
		return mapping{}, false
	}
	m, given := mapping{what: what, at: start(node)}, seen{}
	for _, value := range values {
		name, at := fieldName(value.Key), placeOf(value.Key.GetToken())
		if !slices.Contains(names, name) {
			shown := " (not shown, because it may be a secret)"
			if likeAName.MatchString(name) {
				shown = ", " + quote(name)
			}
			p.fault(at, what+" has an unknown field"+shown, "the fields are "+strings.Join(names, ", "))
		} else if p.once(given, name, at, name, "keep one of them") {
			m.fields = append(m.fields, field{name, at, value.Value})
		}
	}
	return m, true
}

// fieldName returns the text of a mapping's key, or "" if the key is not text.
func fieldName(key ast.MapKeyNode) string {
	if text, ok := key.(*ast.StringNode); ok {
		return text.Value
	}
	return ""
}

// require returns a field that the mapping must have. A missing field is a fault.
func (p *seedParser) require(in mapping, name, remedy string) (f field, found bool) {
	if f, found = in.find(name); !found {
		p.fault(in.at, in.what+" has no "+name, remedy)
	}
	return f, found
}

// oneOf returns the first field that has one of these names. If the mapping has none of
// them, or more than one, that is a fault. noun describes all these fields in the fault,
// such as "credential".
func (p *seedParser) oneOf(in mapping, noun string, names ...string) (f field, found bool) {
	for _, other := range in.fields {
		switch {
		case !slices.Contains(names, other.name):
		case !found:
			f, found = other, true
		default:
			p.fault(other.at, other.name+" is given beside "+f.name, "keep one of them")
		}
	}
	if !found {
		p.fault(in.at, in.what+" has no "+noun, "give one of "+strings.Join(names, ", "))
	}
	return f, found
}

// list returns the elements of a field whose value is a list. If the list has fewer
// than least elements, that is a fault. If the mapping does not have the field, the
// result is nil, without a fault.
func (p *seedParser) list(in mapping, name string, least int, example string) []ast.Node {
	f, found := in.find(name)
	if !found {
		return nil
	}
	list, ok := f.value.(*ast.SequenceNode)
	if !ok {
		p.fault(f.place(), name+" is not a list", "give a list, such as "+example)
		return nil
	}
	if len(list.Values) < least {
		p.fault(f.place(), name+" is empty", "give a list, such as "+example)
	}
	return list.Values
}

// A check is a condition on a text, and the fault of a text that does not meet it.
type check struct {
	meets           func(string) bool
	problem, remedy string
}

// text returns the text of a field, or "" if there is none. A value that is not text, is
// empty, or does not meet one of the checks is a fault, and text then returns "".
func (p *seedParser) text(in mapping, name string, checks ...check) (text string) {
	f, found := in.find(name)
	if !found {
		return ""
	}
	switch n := f.value.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	default:
		p.fault(f.place(), name+" is not text", "give text, in quotes if it looks like something else")
		return ""
	}
	if text == "" {
		p.fault(f.place(), name+" is empty", "give its value, or leave the field out")
		return ""
	}
	for _, c := range checks {
		if !c.meets(text) {
			p.fault(f.place(), name+" "+c.problem, c.remedy)
			return ""
		}
	}
	return text
}

// flag returns a field that is true or false; false if there is none.
func (p *seedParser) flag(in mapping, name string) bool {
	f, found := in.find(name)
	value, ok := f.value.(*ast.BoolNode)
	if found && !ok {
		p.fault(f.place(), name+" is neither true nor false", "give true or false, without quotes")
	}
	return ok && value.Value
}

// number returns a field that is a whole number greater than zero; 0 if there is none.
func (p *seedParser) number(in mapping, name string) int64 {
	f, found := in.find(name)
	if !found {
		return 0
	}
	n, err := strconv.ParseInt(scalar(f.value), 10, 64)
	if f.value.Type() != ast.IntegerType || err != nil || n < 1 {
		p.fault(f.place(), name+" is not a whole number greater than zero", "give one, without quotes, or leave the field out")
	}
	return n
}

// scalar returns the text of a node that is a text or a whole number, else "". A number is
// returned as the file has it, because its value could have lost digits.
func scalar(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.IntegerNode:
		return n.GetToken().Value
	}
	return ""
}
