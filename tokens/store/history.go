package store

import (
	"strings"
	"time"
)

// mostEvents is how many events a record's history has.
const mostEvents = 8

// An Event is what happened to a portal's grant.
type Event struct {
	At   time.Time
	What string // a Cause, or "ended:" and HubSpot's code
}

// Noted returns the record with one more event in its history, without the oldest
// if there are too many.
func (r Record) Noted(at time.Time, what string) Record {
	events := append(strings.Fields(r.History), millis(at)+"="+strings.Map(eventRune, what))
	r.History = strings.Join(events[max(0, len(events)-mostEvents):], " ")
	return r
}

// eventRune keeps what HubSpot calls an error from breaking the history apart.
func eventRune(c rune) rune {
	if c <= ' ' || c == '=' || c > '~' {
		return '_'
	}
	return c
}

// Events returns the record's history, the oldest event first. What cannot be
// read is left out.
func (r Record) Events() []Event {
	var all []Event
	for text := range strings.FieldsSeq(r.History) {
		at, what, _ := strings.Cut(text, "=")
		if t, err := parseMillis(at); err == nil && at != "" {
			all = append(all, Event{t, what})
		}
	}
	return all[max(0, len(all)-mostEvents):]
}
