package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestARecordKeepsItsLastEvents(t *testing.T) {
	var r Record
	if r.Events() != nil {
		t.Errorf("%v", r.Events())
	}
	begin := time.UnixMilli(1_800_000_000_000)
	for i := range 20 {
		r = r.WithEvent(begin.Add(time.Duration(i)*time.Second), "expiry")
	}
	r = r.WithEvent(begin.Add(time.Minute), "ended:BAD = REFRESH\nTOKEN é")
	events := r.Events()
	want := Event{begin.Add(time.Minute), "ended:BAD___REFRESH_TOKEN__"}
	if len(events) != maxEvents || !events[0].At.Equal(begin.Add(13*time.Second)) || !cmp.Equal(events[maxEvents-1], want) {
		t.Errorf("%v", events)
	}
	r.History = "x=expiry  =y 5 7=expiry " + strings.Repeat("1=a ", 100)
	if events := r.Events(); len(events) != maxEvents {
		t.Errorf("%v", events)
	}
}
