//go:build !unix

package statefile

import (
	"errors"
	"net"
	"os"
)

// A disk cannot be opened on this system, because the system has neither file modes nor flock.
type disk struct {
	size   int64
	broken error
}

var errSystem = errors.New("not on this system")

func openDisk(_, _ string) (*disk, error) {
	return nil, &Error{Problem: "cannot be kept safely on this system", Remedy: "unset STATE_FILE, and use REDIS_URL"}
}

func (*disk) load() (map[string]saved, int, error) { return nil, 0, errSystem }
func (*disk) append(string) error                  { return errSystem }
func (*disk) prepare([]string) (*os.File, error)   { return nil, errSystem }
func (*disk) replace(*os.File, string) error       { return errSystem }
func (*disk) listen(string) (net.Listener, error)  { return nil, errSystem }
func (*disk) removeSocket()                        {}
func (*disk) close()                               {}
