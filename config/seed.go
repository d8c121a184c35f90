package config

import (
	"os"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// seedFile is the variable that names the file. All of the file's faults bear
// its name.
const seedFile = "SEED_FILE"

// seedLimit is how many bytes a seed file may have. A portal takes about a
// hundred.
const seedLimit = 4 << 20

const tooLarge = "leave out what is not needed, or connect portals by the portal command"

// A Seed is the portals and clients that SEED_FILE lists, in its order. Either
// may be empty. It prints no secret.
type Seed struct {
	Portals []SeedPortal
	Clients []SeedClient
}

// A SeedPortal is one portal and its credential.
type SeedPortal struct {
	// ID is its Hub ID. No two portals of a Seed have the same.
	ID string

	// Name is for people: one line of any text. Empty if the file has none.
	Name string

	// The credential. One of them is set, and has only characters that a
	// header can carry.
	RefreshToken secret.Text
	AccessToken  secret.Text
	APIKey       secret.Text
}

// A SeedClient is one caller of the proxy.
type SeedClient struct {
	// Name has 1 to 64 letters, digits, dots, - and _. No two clients of a
	// Seed have the same.
	Name string

	// Keys are its keys, the current one first. Never empty. No two clients of a
	// Seed have the same key.
	Keys []SeedKey

	// Portals are the ids of those that it may use, each once, or "*" alone,
	// which is all. Never empty.
	Portals []string

	// ReadOnly says that it may read only.
	ReadOnly bool

	// Paths are rules for the paths that it may use; see [wire.IsPathRule]. Nil
	// means all paths.
	Paths []string

	// DailyLimit is how many calls it may send on a day. Zero means no limit.
	DailyLimit int64
}

// A SeedKey is one key of a caller.
type SeedKey struct {
	// Either Key is set, which begins with hap_, or SHA256, the SHA-256 of such a
	// key in lower-case hex.
	Key    secret.Text
	SHA256 string

	// Expires is when the key ceases to work. Zero means never.
	Expires time.Time
}

// ParseExpiry reads when a key expires: at the end of a day, by UTC, such as
// 2027-01-31, or at a time as RFC 3339 has it.
func ParseExpiry(text string) (expires time.Time, ok bool) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), true
	}
	expires, err := time.Parse(time.RFC3339, text)
	return expires.UTC(), err == nil
}

// ReadSeed reads the file at path, which is YAML or JSON of at most 4 MiB.
// An error is [Faults], which tells all that is wrong, each with its line and
// column. Only syntax that cannot be read hides what else is wrong. No fault
// quotes a value of the file, and a key only if it looks like one.
//
// A file without anything in it is a fault, because a file that was cut short
// while it was written would else take every client's right away. A seed of
// nothing is {}.
func ReadSeed(path string) (Seed, error) {
	content, err := SeedFile(path).Read()
	if err != nil {
		return Seed{}, err
	}
	return ParseSeed(content)
}

// checkSeedFile only opens the file; what is in it, ReadSeed tells.
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

// ParseSeed is [ReadSeed] of what the file has.
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
