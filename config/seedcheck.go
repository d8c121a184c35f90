package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"hubspot-auth-proxy/tokens/hubspot"
)

// What the clients package takes: its rules again, so that a fault has its
// line.
const (
	keyPrefix  = "hap_"
	allPortals = "*"
)

var (
	clientName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	sha256Hex  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

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
	in, ok := p.mapping(node, "a client", "name", "key", "key_sha256", "portals", "read_only")
	if !ok {
		return SeedClient{}
	}
	client := SeedClient{Name: p.clientName(in, names), Portals: p.clientPortals(in), ReadOnly: p.flag(in, "read_only")}
	p.clientKey(in, &client)

	given := in.among("key", "key_sha256")
	switch len(given) {
	case 0:
		p.fault(in.at, "the client has no key", "give key_sha256, or key")
	case 1:
		hash := client.KeySHA256
		if !client.Key.IsZero() {
			sum := sha256.Sum256([]byte(client.Key.Reveal()))
			hash = hex.EncodeToString(sum[:])
		}
		if line, before := keys.seen(hash, given[0].at); before && hash != "" {
			p.fault(given[0].at, fmt.Sprintf("the client has the same key as the one whose key is on line %d", line), "give each client a key of its own")
		}
	default:
		p.fault(given[1].at, given[1].name+" is given beside "+given[0].name, "keep one of them")
	}
	return client
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
	if !clientName.MatchString(name) {
		p.fault(at, "name is not a client's name", "give 1 to 64 letters, digits, dots, - and _, a letter or digit first")
	} else if line, before := names.seen(name, at); before {
		p.fault(at, fmt.Sprintf("the client has the same name as the one on line %d", line), "give each client a name of its own")
	}
	return name
}

// clientKey reads key and key_sha256, of which it leaves none that is wrong.
func (p *seedParser) clientKey(in fields, client *SeedClient) {
	key, at := p.credential(in, "key")
	if !key.IsZero() {
		if rest, ok := strings.CutPrefix(key.Reveal(), keyPrefix); !ok || rest == "" {
			p.fault(at, "key does not begin with hap_, or ends there", "give a key that client add has made")
		} else {
			client.Key = key
		}
	}
	hash, at, ok := p.text(in, "key_sha256")
	if ok && !sha256Hex.MatchString(hash) {
		p.fault(at, "key_sha256 is not a SHA-256 in lower-case hex", "give the 64 digits that printf %s KEY | sha256sum prints")
	} else if ok {
		client.KeySHA256 = hash
	}
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
