package activity

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeTime is a clock that stands still until it is put forward.
type fakeTime struct{ seconds atomic.Int64 }

func (f *fakeTime) now() time.Time          { return time.Unix(f.seconds.Load(), 0) }
func (f *fakeTime) forward(d time.Duration) { f.seconds.Add(int64(d / time.Second)) }

// noon is the beginning of a minute.
const noon = 1_800_000_000

func atNoon() (*Log, *fakeTime) {
	clock := new(fakeTime)
	clock.seconds.Store(noon)
	return New(clock.now), clock
}

// good is a call, and bad one that counts as an error.
var good, bad = Call{Status: 200}, Call{Client: "billing", Status: 500}

// busy returns the minutes in which there were calls.
func (l *Log) busy() (minutes []Minute) {
	for _, m := range l.Minutes() {
		if m.Calls > 0 || m.Errors > 0 {
			minutes = append(minutes, m)
		}
	}
	return minutes
}

func TestTheLastHourIsByMinutesTheCurrentOneLast(t *testing.T) {
	l, clock := atNoon()
	l.Add(good)
	clock.forward(59 * time.Second)
	l.Add(bad)
	clock.forward(time.Second)
	l.Add(bad)
	clock.forward(2 * time.Minute)
	l.Add(good)
	minute := func(n int) time.Time { return time.Unix(noon, 0).Add(time.Duration(n) * time.Minute) }
	want := []Minute{{minute(0), 2, 1}, {minute(1), 1, 1}, {minute(3), 1, 0}}
	if diff := cmp.Diff(want, l.busy()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	all := l.Minutes()
	if len(all) != 60 || !all[59].Begin.Equal(minute(3)) || !all[0].Begin.Equal(minute(3-59)) {
		t.Errorf("%d minutes, from %s to %s", len(all), all[0].Begin, all[len(all)-1].Begin)
	}
}

func TestACallIsForgottenAfterAnHour(t *testing.T) {
	l, clock := atNoon()
	l.Add(bad)
	clock.forward(59 * time.Minute)
	if diff := cmp.Diff([]Minute{{time.Unix(noon, 0), 1, 1}}, l.busy()); diff != "" {
		t.Errorf("after 59 minutes (-want +got):\n%s", diff)
	}
	clock.forward(time.Minute)
	if busy := l.busy(); busy != nil {
		t.Errorf("after an hour: %v", busy)
	}
	l.Add(good) // in the place of the first
	if diff := cmp.Diff([]Minute{{time.Unix(noon+3600, 0), 1, 0}}, l.busy()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoCallIsLostAtTheTurnOfAMinute(t *testing.T) {
	const turns, workers = 5000, 4
	l, clock := atNoon()
	var counted, reached atomic.Int64
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for turn := range int64(turns) {
				// All count the first call of the minute, at once.
				for reached.Add(1); reached.Load() < workers*(turn+1); {
					runtime.Gosched()
				}
				l.Add(good)
				if counted.Add(1) == workers*(turn+1) {
					if busy := l.busy(); len(busy) != 1 || busy[0].Calls != workers {
						t.Errorf("turn %d: %v", turn, busy)
					}
					clock.forward(time.Hour)
				}
				for counted.Load() < workers*(turn+1) || clock.seconds.Load() < noon+3600*(turn+1) {
					runtime.Gosched()
				}
			}
		})
	}
	work.Wait()
}

func TestErrorsAreThoseThatAnOperatorShouldKnowAbout(t *testing.T) {
	for _, tt := range []struct {
		call   Call
		errors int64
	}{
		{Call{Status: 200}, 0}, {Call{Status: 302}, 0}, {Call{Status: 400}, 0}, {Call{Status: 404}, 0}, {Call{Status: 499, Left: true}, 0},
		{Call{Status: 401}, 1}, {Call{Status: 429}, 1}, {Call{Status: 500}, 1}, {Call{Status: 999}, 1}, {Call{Status: 400, Refused: true}, 1},
	} {
		l, _ := atNoon()
		l.Add(tt.call)
		if diff := cmp.Diff([]Minute{{time.Unix(noon, 0), 1, tt.errors}}, l.busy()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.call, diff)
		}
	}
}
