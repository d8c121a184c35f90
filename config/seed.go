package config

import (
	"os"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// seedFile is the variable that names the file, and the name in all faults of the file.
const seedFile = "SEED_FILE"

// seedLimit is how many bytes a seed file may have. A portal takes about 100.
const seedLimit = 4 << 20

const shortenSeed = "remove entries that are not needed, or connect portals with the portal command"

// A Seed has the portals and clients that SEED_FILE lists, in the order of the file. Either
// list may be empty. Printing a Seed shows no secret.
type Seed struct {
	Portals []SeedPortal
	Clients []SeedClient
}

// A SeedPortal is one portal and its credential.
type SeedPortal struct {
	// ID is the portal's Hub ID, different from that of every other portal of the Seed.
	ID string

	// Name is for people: one line of text. Empty if the file has none.
	Name string

	// The credential: exactly one of these is set, without characters that a header
	// cannot carry.
	RefreshToken secret.Text
	AccessToken  secret.Text
	APIKey       secret.Text
}

// A SeedClient is a client of the proxy.
type SeedClient struct {
	// Name is valid by [wire.IsClientName], and different from that of every other
	// client of the Seed.
	Name string

	// Keys are the client's keys, the current one first. Never empty. No key occurs
	// twice in a Seed.
	Keys []SeedKey

	// Portals are the ids of the portals that the client may use, each once, or "*"
	// alone, which means all. Never empty.
	Portals []string

	// ReadOnly limits the client to calls that only read.
	ReadOnly bool

	// Paths are rules for the paths that the client may use; see [wire.IsPathRule]. nil
	// means that the client may use all paths.
	Paths []string

	// DailyLimit is how many calls the client may send on one day (UTC). Zero means no
	// limit.
	DailyLimit int64
}

// A SeedKey is one key of a client.
type SeedKey struct {
	// Exactly one is set: Key, which begins with hap_, or SHA256, the SHA-256 of such
	// a key in lower-case hex.
	Key    secret.Text
	SHA256 string

	// Expires is when the key expires. The zero time means that the key does not expire.
	Expires time.Time
}

// ParseExpiry parses the time at which a key expires. text is a day such as 2027-01-31,
// at whose end (UTC) the key expires, or a time by RFC 3339. The result is in UTC.
func ParseExpiry(text string) (expires time.Time, ok bool) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), true
	}
	expires, err := time.Parse(time.RFC3339, text)
	return expires.UTC(), err == nil
}

// ReadSeed reads the file at path, which is YAML or JSON of at most 4 MiB. An error is
// [Faults]: the first 100 faults of the file, each with its line and column. If the syntax
// is wrong, only the syntax is reported. A fault quotes no value of the file, and the name
// of a field only if it cannot be a secret.
//
// An empty file is a fault, because a file that was cut short while it was written would
// otherwise revoke every client's key. A seed without portals and clients is {}.
func ReadSeed(path string) (Seed, error) {
	content, err := SeedFile(path).Read()
	if err != nil {
		return Seed{}, err
	}
	return ParseSeed(content)
}

// checkSeedFile only opens the file; ReadSeed reports the faults of its content.
func (l *loader) checkSeedFile() {
	if l.SeedFile == "" {
		return
	}
	if fault := notRegular(seedFile, l.SeedFile); fault != nil {
		l.faults = append(l.faults, *fault)
		return
	}
	file, err := os.Open(l.SeedFile)
	if err != nil {
		l.faults = append(l.faults, unreadable(seedFile, l.SeedFile, err))
		return
	}
	defer func() { _ = file.Close() }() // nothing was written
	if info, err := file.Stat(); err == nil && info.IsDir() {
		l.fault(seedFile, quotePath(l.SeedFile)+" is a directory", "give the path of a file that this process may read")
	}
}

// ParseSeed is [ReadSeed] for the content of a file.
func ParseSeed(content []byte) (Seed, error) {
	var p seedParser
	root := p.parse(content)
	var seed Seed
	if root != nil {
		seed = p.seed(root)
	}
	if faults := p.sorted(); len(faults) > 0 {
		return Seed{}, faults
	}
	return seed, nil
}
