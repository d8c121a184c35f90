package config

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// allPortals is the only element of a client's list of portals that allows all of them.
const allPortals = "*"

// The checks that texts of a seed file must pass.
var (
	printable  = check{isPrintable, "has a line break or another character that is not printable", "give one line of text"}
	headerSafe = check{isHeaderSafe, notInCredentials, copyAgain}
	clientName = check{wire.IsClientName, "is not a client name", "give 1 to 64 letters, digits, dots, - and _, with a letter or digit first"}
	clientKey  = check{isClientKey, "does not begin with hap_, or has nothing after it", "give a key that client add has printed"}
	keyHash    = check{wire.IsKeyHash, "is not a SHA-256 in lower-case hex", "give the 64 digits that printf %s KEY | sha256sum prints"}
	expiry     = check{isExpiry, "is neither a day nor a time", "give a day such as 2027-01-31, at whose end the key expires, or a time such as 2027-01-31T12:00:00Z"}
)

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isHeaderSafe(text string) bool { return secret.HeaderUnsafe(text) < 0 }

func isClientKey(text string) bool {
	return strings.HasPrefix(text, wire.KeyPrefix) && len(text) > len(wire.KeyPrefix)
}

func isExpiry(text string) bool {
	_, ok := ParseExpiry(text)
	return ok
}

// seed returns the portals and clients of the document. The result is valid only if the
// parser has no faults.
func (p *seedParser) seed(root ast.Node) Seed {
	var seed Seed
	top, _ := p.mapping(root, "the file", "portals", "clients")
	ids, names, keys := seen{}, seen{}, seen{}
	for _, node := range p.list(top, "portals", 0, "[{id: 62515, access_token: …}]") {
		seed.Portals = append(seed.Portals, p.portal(node, ids))
	}
	for _, node := range p.list(top, "clients", 0, "[{name: billing, key_sha256: …, portals: [62515]}]") {
		seed.Clients = append(seed.Clients, p.client(node, names, keys))
	}
	return seed
}

func (p *seedParser) portal(node ast.Node, ids seen) SeedPortal {
	in, ok := p.mapping(node, "the portal", "id", "name", "refresh_token", "access_token", "api_key")
	if !ok {
		return SeedPortal{}
	}
	p.oneOf(in, "credential", "refresh_token", "access_token", "api_key")
	return SeedPortal{
		ID: p.portalID(in, ids), Name: p.text(in, "name", printable),
		RefreshToken: secret.New(p.text(in, "refresh_token", headerSafe)),
		AccessToken:  secret.New(p.text(in, "access_token", headerSafe)),
		APIKey:       secret.New(p.text(in, "api_key", headerSafe)),
	}
}

func (p *seedParser) portalID(in mapping, ids seen) string {
	f, found := p.require(in, "id", "give its Hub ID, such as id: 62515")
	if !found {
		return ""
	}
	id := scalar(f.value)
	if !hubspot.ValidPortal(id) {
		p.fault(f.place(), "id is not a portal id", "give a number such as 62515")
		return ""
	}
	p.once(ids, id, f.place(), "portal "+id, "keep one of them")
	return id
}

func (p *seedParser) client(node ast.Node, names, keys seen) SeedClient {
	in, ok := p.mapping(node, "the client", "name", "key", "key_sha256", "expires", "keys", "portals", "read_only", "paths", "daily_limit")
	if !ok {
		return SeedClient{}
	}
	name := p.text(in, "name", clientName)
	if f, found := p.require(in, "name", "give one, such as name: billing"); found {
		p.once(names, name, f.place(), "the client's name", "give each client a name of its own")
	}
	return SeedClient{
		Name: name, Keys: p.clientKeys(in, keys), Portals: p.clientPortals(in), ReadOnly: p.flag(in, "read_only"), Paths: p.clientPaths(in),
		DailyLimit: p.number(in, "daily_limit"),
	}
}

// clientKeys returns the key in the client's own mapping, or those of its list keys.
func (p *seedParser) clientKeys(in mapping, keys seen) []SeedKey {
	if _, several := in.find("keys"); !several {
		return []SeedKey{p.clientKey(in, keys)}
	}
	p.oneOf(in, "key", "keys", "key", "key_sha256")
	if f, found := in.find("expires"); found {
		p.fault(f.at, "expires is given beside keys", "give it in the entries of keys")
	}
	var all []SeedKey
	for _, node := range p.list(in, "keys", 1, "[{key_sha256: 9f86d0…}]") {
		if one, ok := p.mapping(node, "the key", "key", "key_sha256", "expires"); ok {
			all = append(all, p.clientKey(one, keys))
		}
	}
	return all
}

func (p *seedParser) clientKey(in mapping, keys seen) SeedKey {
	key := SeedKey{Key: secret.New(p.text(in, "key", headerSafe, clientKey)), SHA256: p.text(in, "key_sha256", keyHash)}
	key.Expires, _ = ParseExpiry(p.text(in, "expires", expiry))
	if f, found := p.oneOf(in, "key", "key_sha256", "key"); found {
		p.once(keys, key.hash(), f.at, "the key", "give each client a key of its own")
	}
	return key
}

// hash returns the key's SHA-256, or "" if the key has a fault.
func (k SeedKey) hash() string {
	if k.Key.IsZero() {
		return k.SHA256
	}
	sum := sha256.Sum256([]byte(k.Key.Reveal()))
	return hex.EncodeToString(sum[:])
}

func (p *seedParser) clientPaths(in mapping) []string {
	var paths []string
	for _, node := range p.list(in, "paths", 1, "[/crm/v3/objects/contacts], or leave paths out to allow all") {
		path := scalar(node)
		if !wire.IsPathRule(path) {
			p.fault(start(node), "this is not a path rule", "give a path such as /crm/v3/objects/contacts, without escapes and without a slash at its end")
		}
		paths = append(paths, path)
	}
	return paths
}

func (p *seedParser) clientPortals(in mapping) []string {
	const example = `[62515, 62516], or ["*"] for all portals`
	p.require(in, "portals", "give a list, such as "+example)
	nodes := p.list(in, "portals", 1, example)
	var portals []string
	ids := seen{}
	for _, node := range nodes {
		switch id := scalar(node); {
		case id == allPortals && len(nodes) > 1:
			p.fault(start(node), `"*" is given beside other portals`, `keep ["*"] for all portals, or the other ids`)
		case id == allPortals || hubspot.ValidPortal(id):
			p.once(ids, id, start(node), "this portal", "keep one of them")
			portals = append(portals, id)
		default:
			p.fault(start(node), "this is not a portal id", `give a number such as 62515, or "*" for all portals`)
		}
	}
	return portals
}
