package seeding

import (
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// A Seed has the portals and clients that SEED_FILE lists, in the order of the file. Either
// list may be empty. No portal, name of a client or key occurs twice. Printing a Seed shows
// no secret.
type Seed struct {
	Portals []tokens.Seed
	Clients []clients.Client

	// ShortKeys are the names of the clients with a key of fewer than minKey characters, which
	// somebody may guess. Of a key that is given as a hash, the length is not known.
	ShortKeys []string
}

// minKey is the number of characters after hap_ that a key should have.
const minKey = 32

// Kinds are the kinds of credentials, by their names in a seed file and in portal set.
var Kinds = map[string]tokens.Kind{"access_token": tokens.AccessToken, "api_key": tokens.APIKey, "refresh_token": tokens.OAuth}

// The rules that texts of a seed file must meet.
var (
	printable  = rule{isPrintable, "has a line break or another character that is not printable", "give one line of text"}
	headerSafe = rule{isHeaderSafe, "has a space, a line break or another character that no credential contains", "copy the credential again, without anything around it"}
	portalID   = rule{hubspot.ValidPortal, "is not a portal id", "give a number such as 62515"}
	portalOf   = rule{isPortalOf, "is not a portal id", `give a number such as 62515, or "*" for all portals`}
	clientName = rule{wire.IsClientName, "is not a client name", "give 1 to 64 letters, digits, dots, - and _, with a letter or digit first"}
	clientKey  = rule{isClientKey, "does not begin with hap_, or has nothing after it", "give a key that client add has printed"}
	keyHash    = rule{wire.IsKeyHash, "is not a SHA-256 in lower-case hex", "give the 64 digits that printf %s KEY | sha256sum prints"}
	expiry     = rule{isExpiry, "is neither a day nor a time", "give a day such as 2027-01-31, at whose end the key expires, or a time such as 2027-01-31T12:00:00Z"}
	pathRule   = rule{wire.IsPathRule, "is not a path rule", "give a path such as /crm/v3/objects/contacts, without escapes and without a slash at its end"}
)

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isHeaderSafe(text string) bool { return secret.HeaderUnsafe(text) < 0 }

func isPortalOf(id string) bool { return id == clients.AllPortals || hubspot.ValidPortal(id) }

func isClientKey(text string) bool { return clients.IsKey(text) && text != wire.KeyPrefix }

func isExpiry(text string) bool {
	_, ok := clients.ParseExpiry(text)
	return ok
}

// Parse parses the content of a seed file, which is YAML or JSON. It returns the first 100
// faults of the file, each with its line and column. If the syntax is wrong, only the
// syntax is reported. A fault quotes no value of the file, and the name of a field only if
// it cannot be a secret.
//
// An empty file is a fault, because a file that was cut short while it was written would
// otherwise revoke every client's key. A seed without portals and clients is {}.
func Parse(content []byte) (seed Seed, faults config.Faults) {
	var r reader
	if root := r.parse(content); root != nil {
		seed = r.seed(root)
	}
	if len(r.faults) > 0 {
		return Seed{}, r.sorted()
	}
	seed.ShortKeys = r.shortKeys
	return seed, nil
}

// seed returns the portals and clients of the document. The result is valid only if the
// reader has no faults.
func (r *reader) seed(root ast.Node) (seed Seed) {
	top, _ := r.mapping(root, "the file", "portals", "clients")
	ids, names, keys := seen{}, seen{}, seen{}
	for _, f := range top.fields {
		if f.name == "portals" {
			for _, v := range r.list(f, 0, "[{id: 62515, access_token: …}]") {
				seed.Portals = append(seed.Portals, r.portal(v, ids))
			}
			continue
		}
		for _, v := range r.list(f, 0, "[{name: billing, key_sha256: …, portals: [62515]}]") {
			seed.Clients = append(seed.Clients, r.client(v, names, keys))
		}
	}
	return seed
}

func (r *reader) portal(v value, ids seen) (seed tokens.Seed) {
	in, ok := r.mapping(v.node, "the portal", "id", "name", "refresh_token", "access_token", "api_key")
	if !ok {
		return tokens.Seed{}
	}
	r.oneOf(in, "credential", "give one of refresh_token, access_token, api_key", "refresh_token", "access_token", "api_key")
	id := r.oneOf(in, "id", "give its Hub ID, such as id: 62515", "id")
	for _, f := range slices.Backward(in.fields) {
		switch f.name {
		case "id":
			seed.Portal = r.word(f, portalID)
		case "name":
			seed.Name = r.text(f, printable)
		default:
			seed.Kind, seed.Secret = Kinds[f.name], secret.New(r.text(f, headerSafe))
		}
	}
	r.once(ids, seed.Portal, id.place(), "portal "+seed.Portal, "keep one of them")
	return seed
}

func (r *reader) client(v value, names, keys seen) (c clients.Client) {
	in, ok := r.mapping(v.node, "the client", "name", "key", "key_sha256", "expires", "keys", "portals", "read_only", "paths", "daily_limit")
	if !ok {
		return clients.Client{}
	}
	name := r.oneOf(in, "name", "give one, such as name: billing", "name")
	r.oneOf(in, "portals", "give a list, such as "+portalsExample, "portals")
	for _, f := range slices.Backward(in.fields) {
		switch f.name {
		case "name":
			c.Name = r.text(f, clientName)
		case "portals":
			c.Portals = r.clientPortals(f)
		case "read_only":
			c.ReadOnly = r.flag(f)
		case "daily_limit":
			c.DailyLimit = r.number(f)
		case "paths":
			c.Paths = r.clientPaths(f)
		}
	}
	r.once(names, c.Name, name.place(), "the client's name", "give each client a name of its own")
	r.short = false
	if all := r.clientKeys(in, keys); len(all) > 0 {
		c.KeySHA256, c.Expires, c.OlderKeys = all[0].SHA256, all[0].Expires, all[1:]
	}
	if r.short {
		r.shortKeys = append(r.shortKeys, c.Name)
	}
	return c
}

// clientKeys returns the key in the mapping itself, or those of the mapping's list keys.
func (r *reader) clientKeys(in mapping, keys seen) []clients.Key {
	var own clients.Key
	var listed []clients.Key
	key := r.oneOf(in, "key", "give one of key_sha256, key", "keys", "key_sha256", "key")
	for _, f := range slices.Backward(in.fields) {
		switch f.name {
		case "key_sha256":
			own.SHA256 = r.text(f, keyHash)
		case "key":
			text := r.text(f, headerSafe, clientKey)
			own.SHA256, r.short = hashOf(text), r.short || len(text) < len(wire.KeyPrefix)+minKey
		case "expires":
			own.Expires, _ = clients.ParseExpiry(r.text(f, expiry))
		case "keys":
			listed = r.keyList(f, keys)
		}
	}
	if in.field("keys").node == nil {
		r.once(keys, own.SHA256, key.key, "the key", "give each client a key of its own")
		return []clients.Key{own}
	}
	if expires := in.field("expires"); expires.node != nil {
		r.fault(expires.key, "expires is given beside keys", "give it in the entries of keys")
	}
	return listed
}

// keyList returns the keys of a client's list keys.
func (r *reader) keyList(v value, keys seen) (all []clients.Key) {
	for _, entry := range r.list(v, 1, "[{key_sha256: 9f86d0…}]") {
		if in, ok := r.mapping(entry.node, "the key", "key", "key_sha256", "expires"); ok {
			all = append(all, r.clientKeys(in, keys)...)
		}
	}
	return all
}

// hashOf returns the hash of a client key, or "" if key is "".
func hashOf(key string) string {
	if key == "" {
		return ""
	}
	return clients.Hash(secret.New(key))
}

func (r *reader) clientPaths(v value) (paths []string) {
	for _, path := range r.list(v, 1, "[/crm/v3/objects/contacts], or leave paths out to allow all") {
		paths = append(paths, r.word(path, pathRule))
	}
	return paths
}

const portalsExample = `[62515, 62516], or ["*"] for all portals`

func (r *reader) clientPortals(v value) (portals []string) {
	list := r.list(v, 1, portalsExample)
	ids := seen{}
	for _, v := range list {
		id := r.word(v, portalOf)
		if id == clients.AllPortals && len(list) > 1 {
			r.fault(v.place(), `"*" is given beside other portals`, `keep ["*"] for all portals, or the other ids`)
		} else {
			r.once(ids, id, v.place(), "this portal", "keep one of them")
		}
		portals = append(portals, id)
	}
	return portals
}
