package budget

import (
	"fmt"
	"time"
)

// HubSpot's names for its limits: the values of policyName in HubSpot's 429 answers.
const (
	PolicyBurst  = "TEN_SECONDLY_ROLLING"
	PolicySecond = "SECONDLY"
	PolicyDaily  = "DAILY" // SDKs do not wait for it
)

// IsBurst reports whether the policy is a limit of seconds, so that waiting helps.
func IsBurst(policy string) bool { return policy == PolicyBurst || policy == PolicySecond }

// A RefusedError reports that a call has no turn.
type RefusedError struct {
	// RetryAfter is how long it takes until there may be a turn. It is above zero.
	RetryAfter time.Duration

	// Policy is HubSpot's name for the limit.
	Policy string

	// Full reports that too many calls of the client wait already. Daily reports that
	// the client's own daily limit is used up.
	Full, Daily bool
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("no turn within the limit %s before %v", e.Policy, e.RetryAfter)
}
