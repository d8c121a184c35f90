package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
)

// allPortals is the one element of a client's portals that is all of them.
const allPortals = "*"

// once remembers on which line what may be there only once was first seen.
type once map[string]int

// seen returns the line on which the value was seen before.
func (o once) seen(value string, at place) (line int, before bool) {
	line, before = o[value]
	if !before {
		o[value] = at.line
	}
	return line, before
}

// seed returns what the document says. It is of use only if no fault is found.
func (p *seedParser) seed(root ast.Node) Seed {
	var seed Seed
	top, _ := p.mapping(root, "the file", "portals", "clients")
	ids, names, keys := once{}, once{}, once{}
	for _, node := range p.sequence(top, "portals", "[{id: 62515, access_token: …}]") {
		seed.Portals = append(seed.Portals, p.portal(node, ids))
	}
	for _, node := range p.sequence(top, "clients", "[{name: billing, key_sha256: …, portals: [62515]}]") {
		seed.Clients = append(seed.Clients, p.client(node, names, keys))
	}
	return seed
}

func (p *seedParser) portal(node ast.Node, ids once) SeedPortal {
	kinds := []string{"refresh_token", "access_token", "api_key"}
	in, ok := p.mapping(node, "a portal", append([]string{"id", "name"}, kinds...)...)
	if !ok {
		return SeedPortal{}
	}
	portal := SeedPortal{ID: p.portalID(in, ids), Name: p.portalName(in)}
	portal.RefreshToken, _ = p.credential(in, kinds[0])
	portal.AccessToken, _ = p.credential(in, kinds[1])
	portal.APIKey, _ = p.credential(in, kinds[2])

	given := in.among(kinds...)
	if len(given) == 0 {
		p.fault(in.at, "the portal has no credential", "give one of "+strings.Join(kinds, ", "))
	}
	for i, extra := range given {
		if i > 0 {
			p.fault(extra.at, extra.name+" is given beside "+given[0].name, "keep one of them: a portal has one credential")
		}
	}
	return portal
}

func (p *seedParser) portalID(in fields, ids once) string {
	f, found := in.find("id")
	if !found {
		p.fault(in.at, "the portal has no id", "give its Hub ID, such as id: 62515")
		return ""
	}
	id := scalar(f.value)
	if !hubspot.ValidPortal(id) {
		p.fault(f.place(), "id is not a portal id", "give a number such as 62515")
		return ""
	}
	if line, before := ids.seen(id, f.place()); before {
		p.fault(f.place(), fmt.Sprintf("portal %s is given twice, first on line %d", id, line), "keep one of them")
	}
	return id
}

func (p *seedParser) portalName(in fields) string {
	name, at, ok := p.text(in, "name")
	if ok && strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		p.fault(at, "name has a control character, a line break or another that is not printed", "give one line of text")
	}
	return name
}

func (p *seedParser) client(node ast.Node, names, keys once) SeedClient {
	in, ok := p.mapping(node, "a client", "name", "key", "key_sha256", "expires", "keys", "portals", "read_only", "paths", "daily_limit")
	if !ok {
		return SeedClient{}
	}
	return SeedClient{
		Name: p.clientName(in, names), Keys: p.clientKeys(in, keys), Portals: p.clientPortals(in), ReadOnly: p.flag(in, "read_only"), Paths: p.clientPaths(in),
		DailyLimit: p.number(in, "daily_limit"),
	}
}

func (p *seedParser) clientName(in fields, names once) string {
	if _, found := in.find("name"); !found {
		p.fault(in.at, "the client has no name", "give one, such as name: billing")
		return ""
	}
	name, at, ok := p.text(in, "name")
	if !ok {
		return ""
	}
	if !wire.IsClientName(name) {
		p.fault(at, "name is not a client's name", "give 1 to 64 letters, digits, dots, - and _, a letter or digit first")
	} else if line, before := names.seen(name, at); before {
		p.fault(at, fmt.Sprintf("the client has the same name as the one on line %d", line), "give each client a name of its own")
	}
	return name
}

// clientKeys reads the keys of a client: the one that stands in its own mapping, or
// those of its list.
func (p *seedParser) clientKeys(in fields, keys once) []SeedKey {
	list, several := in.find("keys")
	if !several {
		return []SeedKey{p.clientKey(in, "the client", keys)}
	}
	for _, beside := range in.among("key", "key_sha256", "expires") {
		p.fault(beside.at, beside.name+" is given beside keys", "give it in the list keys")
	}
	nodes := p.sequence(in, "keys", "[{key_sha256: 9f86d0…}]")
	if _, isList := list.value.(*ast.SequenceNode); isList && len(nodes) == 0 {
		p.fault(list.place(), "keys is empty", "give a key, with key_sha256 or key")
	}
	var all []SeedKey
	for _, node := range nodes {
		if one, ok := p.mapping(node, "a key", "key", "key_sha256", "expires"); ok {
			all = append(all, p.clientKey(one, "the key", keys))
		}
	}
	return all
}

// clientKey reads key, key_sha256 and expires, of which it leaves none that is
// wrong.
func (p *seedParser) clientKey(in fields, what string, keys once) (key SeedKey) {
	text, at := p.credential(in, "key")
	if !text.IsZero() {
		if rest, ok := strings.CutPrefix(text.Reveal(), wire.KeyPrefix); !ok || rest == "" {
			p.fault(at, "key does not begin with hap_, or ends there", "give a key that client add has made")
		} else {
			key.Key = text
		}
	}
	hash, at, ok := p.text(in, "key_sha256")
	if ok && !wire.IsKeyHash(hash) {
		p.fault(at, "key_sha256 is not a SHA-256 in lower-case hex", "give the 64 digits that printf %s KEY | sha256sum prints")
	} else if ok {
		key.SHA256 = hash
	}
	if date, at, ok := p.text(in, "expires"); ok {
		if key.Expires, ok = ParseExpiry(date); !ok {
			p.fault(at, "expires is neither a day nor a time", "give a day such as 2027-01-31, at whose end the key expires, or a time such as 2027-01-31T12:00:00Z")
		}
	}
	switch given := in.among("key", "key_sha256"); len(given) {
	case 0:
		p.fault(in.at, what+" has no key", "give key_sha256, or key")
	case 1:
		if line, before := keys.seen(key.hash(), given[0].at); before && key.hash() != "" {
			p.fault(given[0].at, fmt.Sprintf("%s has the same key as the one whose key is on line %d", what, line), "give each client a key of its own")
		}
	default:
		p.fault(given[1].at, given[1].name+" is given beside "+given[0].name, "keep one of them")
	}
	return key
}

// hash returns the key's SHA-256, empty if neither is given rightly.
func (k SeedKey) hash() string {
	if k.Key.IsZero() {
		return k.SHA256
	}
	sum := sha256.Sum256([]byte(k.Key.Reveal()))
	return hex.EncodeToString(sum[:])
}

func (p *seedParser) clientPaths(in fields) []string {
	list, found := in.find("paths")
	nodes := p.sequence(in, "paths", "[/crm/v3/objects/contacts]")
	if !found {
		return nil
	}
	if _, isList := list.value.(*ast.SequenceNode); isList && len(nodes) == 0 {
		p.fault(list.place(), "paths is empty", "give paths, or leave it out, which allows all")
	}
	paths := []string{}
	for _, node := range nodes {
		path := scalar(node)
		if !wire.IsPathRule(path) {
			p.fault(start(node), "this is not a path for a rule", "give one such as /crm/v3/objects/contacts, of plain characters, without a slash at its end")
		}
		paths = append(paths, path)
	}
	return paths
}

func (p *seedParser) clientPortals(in fields) []string {
	list, found := in.find("portals")
	nodes, before := p.sequence(in, "portals", "[62515, 62516]"), len(p.faults)
	if _, isList := list.value.(*ast.SequenceNode); !found || isList && len(nodes) == 0 {
		at := in.at
		if found {
			at = list.place()
		}
		p.fault(at, "the client has no portals", `give ids, such as portals: [62515], or ["*"] for all`)
	}
	var portals []string
	ids := once{}
	for _, node := range nodes {
		id, at := scalar(node), start(node)
		if id != allPortals && !hubspot.ValidPortal(id) {
			p.fault(at, "this is not a portal id", `give a number such as 62515, or "*" for all portals`)
		} else if line, twice := ids.seen(id, at); twice {
			p.fault(at, fmt.Sprintf("this portal is given twice, first on line %d", line), "keep one of them")
		}
		portals = append(portals, id)
	}
	if _, all := ids[allPortals]; all && len(nodes) > 1 && len(p.faults) == before {
		p.fault(list.place(), `"*" is given beside other portals`, `keep ["*"], which is all, or the others`)
	}
	return portals
}
