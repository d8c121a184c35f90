package hubspot

import "regexp"

var portalID = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

// ValidPortal reports whether id has the form of a portal id (Hub ID).
func ValidPortal(id string) bool { return portalID.MatchString(id) }
