package seeding

import (
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
}

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
	return seed, nil
}

// seed returns the portals and clients of the document. The result is valid only if the
// reader has no faults.
func (r *reader) seed(root ast.Node) (seed Seed) {
	top, _ := r.mapping(root, "the file", "portals", "clients")
	ids, names, keys := seen{}, seen{}, seen{}
	for _, v := range r.list(top.field("portals"), 0, "[{id: 62515, access_token: …}]") {
		seed.Portals = append(seed.Portals, r.portal(v, ids))
	}
	for _, v := range r.list(top.field("clients"), 0, "[{name: billing, key_sha256: …, portals: [62515]}]") {
		seed.Clients = append(seed.Clients, r.client(v, names, keys))
	}
	return seed
}

func (r *reader) portal(v value, ids seen) tokens.Seed {
	in, ok := r.mapping(v.node, "the portal", "id", "name", "refresh_token", "access_token", "api_key")
	if !ok {
		return tokens.Seed{}
	}
	credential := r.oneOf(in, "credential", "give one of refresh_token, access_token, api_key", "refresh_token", "access_token", "api_key")
	id := r.oneOf(in, "id", "give its Hub ID, such as id: 62515", "id")
	seed := tokens.Seed{
		Portal: r.word(id, portalID), Name: r.text(in.field("name"), printable),
		Kind: Kinds[credential.name], Secret: secret.New(r.text(credential, headerSafe)),
	}
	r.once(ids, seed.Portal, id.place(), "portal "+seed.Portal, "keep one of them")
	return seed
}

func (r *reader) client(v value, names, keys seen) clients.Client {
	in, ok := r.mapping(v.node, "the client", "name", "key", "key_sha256", "expires", "keys", "portals", "read_only", "paths", "daily_limit")
	if !ok {
		return clients.Client{}
	}
	name := r.oneOf(in, "name", "give one, such as name: billing", "name")
	c := clients.Client{
		Name: r.text(name, clientName), Portals: r.clientPortals(in), ReadOnly: r.flag(in.field("read_only")),
		DailyLimit: r.number(in.field("daily_limit")),
	}
	r.once(names, c.Name, name.place(), "the client's name", "give each client a name of its own")
	if all := r.clientKeys(in, keys); len(all) > 0 {
		c.KeySHA256, c.Expires, c.OlderKeys = all[0].SHA256, all[0].Expires, all[1:]
	}
	for _, path := range r.list(in.field("paths"), 1, "[/crm/v3/objects/contacts], or leave paths out to allow all") {
		c.Paths = append(c.Paths, r.word(path, pathRule))
	}
	return c
}

// clientKeys returns the key in the client's own mapping, or those of its list keys.
func (r *reader) clientKeys(in mapping, keys seen) (all []clients.Key) {
	several := in.field("keys")
	if several.node == nil {
		return []clients.Key{r.clientKey(in, keys)}
	}
	r.oneOf(in, "key", "", "keys", "key", "key_sha256")
	if expires := in.field("expires"); expires.node != nil {
		r.fault(expires.key, "expires is given beside keys", "give it in the entries of keys")
	}
	for _, v := range r.list(several, 1, "[{key_sha256: 9f86d0…}]") {
		if one, ok := r.mapping(v.node, "the key", "key", "key_sha256", "expires"); ok {
			all = append(all, r.clientKey(one, keys))
		}
	}
	return all
}

func (r *reader) clientKey(in mapping, keys seen) (key clients.Key) {
	v := r.oneOf(in, "key", "give one of key_sha256, key", "key_sha256", "key")
	if v.name == "key_sha256" {
		key.SHA256 = r.text(v, keyHash)
	} else if text := r.text(v, headerSafe, clientKey); text != "" {
		key.SHA256 = clients.Hash(secret.New(text))
	}
	key.Expires, _ = clients.ParseExpiry(r.text(in.field("expires"), expiry))
	r.once(keys, key.SHA256, v.key, "the key", "give each client a key of its own")
	return key
}

func (r *reader) clientPortals(in mapping) (portals []string) {
	const example = `[62515, 62516], or ["*"] for all portals`
	list := r.list(r.oneOf(in, "portals", "give a list, such as "+example, "portals"), 1, example)
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
