package store

import (
	"strings"
	"time"
)

// maxEvents is the number of events that a record's history keeps.
const maxEvents = 8

// An Event is a renewal of a portal's grant, or its end.
type Event struct {
	At   time.Time
	What string // a Cause, or "ended:" and HubSpot's code
}

// WithEvent returns the record with one more event in its history. If there are too many, the
// oldest is dropped.
func (r Record) WithEvent(at time.Time, what string) Record {
	events := append(strings.Fields(r.History), millis(at)+"="+strings.Map(eventRune, what))
	r.History = strings.Join(events[max(0, len(events)-maxEvents):], " ")
	return r
}

// eventRune replaces characters that separate events, because HubSpot's codes may contain them.
func eventRune(c rune) rune {
	if c <= ' ' || c == '=' || c > '~' {
		return '_'
	}
	return c
}

// Events returns the record's history, the oldest event first. Invalid entries are left out.
func (r Record) Events() []Event {
	var all []Event
	for text := range strings.FieldsSeq(r.History) {
		at, what, _ := strings.Cut(text, "=")
		if t, err := parseTime(at, time.UnixMilli); err == nil && at != "" {
			all = append(all, Event{t, what})
		}
	}
	return all[max(0, len(all)-maxEvents):]
}
