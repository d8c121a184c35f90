package throttle_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/tokens/throttle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const interval = 10 * time.Second

// line is a line that was written. At is the line's time, in seconds since the test began.
type line struct {
	At      float64
	Text    string // level and message
	Context map[string]any
}

func linesOf(logs *observer.ObservedLogs, begin time.Time) []line {
	var lines []line
	for _, entry := range logs.All() {
		text := entry.Level.String() + " " + entry.Message
		lines = append(lines, line{entry.Time.Sub(begin).Seconds(), text, entry.ContextMap()})
	}
	return lines
}

type fields = map[string]any

func TestACauseIsLoggedOncePerIntervalWithItsNumber(t *testing.T) {
	for _, tt := range []struct {
		name string
		log  func(*zap.Logger)
		want []line
	}{
		{"a single entry", func(log *zap.Logger) {
			log.Warn("w", zap.Int("i", 0))
		}, []line{{0, "warn w", fields{"i": int64(0)}}}},
		{"of many, the first and the latest", func(log *zap.Logger) {
			for i := range 10 {
				log.Warn("w", zap.Int("i", i))
				time.Sleep(time.Second / 2)
			}
		}, []line{{0, "warn w", fields{"i": int64(0)}}, {10, "warn w", fields{"i": int64(9), "repeated": int64(9)}}}},
		{"the next interval begins when the latest is written", func(log *zap.Logger) {
			log.Warn("w")
			log.Warn("w")
			time.Sleep(11 * time.Second)
			log.Warn("w")
			time.Sleep(8 * time.Second)
			log.Warn("w")
		}, []line{{0, "warn w", fields{}}, {10, "warn w", fields{"repeated": int64(1)}}, {20, "warn w", fields{"repeated": int64(2)}}}},
		{"a cause is forgotten after an interval without an entry", func(log *zap.Logger) {
			log.Warn("w")
			log.Warn("w")
			time.Sleep(21 * time.Second)
			log.Warn("w")
		}, []line{{0, "warn w", fields{}}, {10, "warn w", fields{"repeated": int64(1)}}, {21, "warn w", fields{}}}},
		{"level, message, category and portal are the cause", func(log *zap.Logger) {
			log.Warn("w", zap.String("category", "a"), zap.String("portal", "1"))
			log.Warn("w", zap.String("category", "b"), zap.String("portal", "1"))
			log.Error("w", zap.String("category", "a"), zap.String("portal", "1"))
			log.Warn("v", zap.String("category", "a"), zap.String("portal", "1"))
			log.Warn("w", zap.String("category", "a"), zap.String("portal", "2"))
			log.Warn("w", zap.String("category", "a"), zap.String("portal", "2"), zap.Error(errors.New("e")))
		}, []line{
			{0, "warn w", fields{"category": "a", "portal": "1"}},
			{0, "warn w", fields{"category": "b", "portal": "1"}},
			{0, "error w", fields{"category": "a", "portal": "1"}},
			{0, "warn v", fields{"category": "a", "portal": "1"}},
			{0, "warn w", fields{"category": "a", "portal": "2"}},
			{10, "warn w", fields{"category": "a", "portal": "2", "error": "e", "repeated": int64(1)}},
		}},
		{"fields and category of With", func(log *zap.Logger) {
			a, b := log.With(zap.String("category", "a"), zap.Int("n", 1)), log.With(zap.String("category", "b"))
			a.Warn("w")
			b.Warn("w")
			b.Warn("w", zap.String("category", "a")) // the entry's own field wins
			a.With(zap.Int("m", 2)).Warn("w", zap.Int("i", 3))
		}, []line{
			{0, "warn w", fields{"category": "a", "n": int64(1)}},
			{0, "warn w", fields{"category": "b"}},
			{10, "warn w", fields{"category": "a", "n": int64(1), "m": int64(2), "i": int64(3), "repeated": int64(2)}},
		}},
		{"all entries below a warning", func(log *zap.Logger) {
			for range 2 {
				log.Debug("d")
				log.Info("i")
			}
		}, []line{{0, "debug d", fields{}}, {0, "info i", fields{}}, {0, "debug d", fields{}}, {0, "info i", fields{}}}},
		{"all entries that may end the program", func(log *zap.Logger) {
			for range 2 {
				func() {
					defer func() { _ = recover() }()
					log.Panic("p")
				}()
			}
		}, []line{{0, "panic p", fields{}}, {0, "panic p", fields{}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.DebugLevel)
				begin := time.Now()
				tt.log(throttle.Logger(zap.New(core), interval))
				time.Sleep(3 * interval)
				synctest.Wait()
				if diff := cmp.Diff(tt.want, linesOf(logs, begin)); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		})
	}
}

func TestNothingIsWrittenBeforeTheIntervalIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		log := throttle.Logger(zap.New(core), interval)
		for _, want := range []int{1, 2, 3} { // at 0, 10 and 20 s
			synctest.Wait()
			log.Warn("w")
			log.Warn("w")
			time.Sleep(interval - time.Nanosecond)
			synctest.Wait()
			if n := logs.Len(); n != want {
				t.Errorf("%d lines, want %d", n, want)
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

func TestEntriesThatTheWrappedLoggerLeavesOutAreNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, allLogs := observer.New(zapcore.DebugLevel)
		errorsOnly, errorLogs := observer.New(zapcore.ErrorLevel)
		log := throttle.Logger(zap.New(zapcore.NewTee(all, errorsOnly)), interval)
		nothing := throttle.Logger(zap.New(errorsOnly), interval)
		for range 3 {
			log.Warn("w")
			nothing.Warn("w")
		}
		time.Sleep(interval)
		synctest.Wait()
		if a, e := allLogs.Len(), errorLogs.Len(); a != 2 || e != 0 {
			t.Errorf("%d lines, want 2; %d among the errors, want 0", a, e)
		}
	})
}

func TestTheCallerMayReuseItsFields(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	log := throttle.Logger(zap.New(core), interval)
	reused := make([]zap.Field, 1, 2)
	for i := range 3 {
		reused[0] = zap.Int("i", i)
		log.Warn("w", reused...)
	}
	reused[0] = zap.Int("i", -1)
	_ = log.Sync()
	if diff := cmp.Diff(fields{"i": int64(2), "repeated": int64(2)}, logs.All()[1].ContextMap()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestSyncWritesHeldEntriesAndSyncsTheWrappedLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out synced
		log := throttle.Logger(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"}), &out, zap.WarnLevel)), interval)
		for range 3 {
			log.Warn("a")
			log.Error("b", zap.String("category", "c"))
		}
		for range 2 { // the second Sync has nothing to write
			if err := log.Sync(); err != io.ErrClosedPipe {
				t.Errorf("Sync: %v, want the wrapped one's error", err)
			}
			if n, before := out.lines.Load(), out.atSync.Load(); n != 4 || before != 4 {
				t.Errorf("%d lines, %d before the wrapped one was synced; want 4", n, before)
			}
		}
		log.Warn("a") // the interval goes on
		if out.lines.Load() != 4 {
			t.Error("a line was written within the interval")
		}
		time.Sleep(interval)
		synctest.Wait()
		if n := out.lines.Load(); n != 5 {
			t.Errorf("%d lines after the interval, want 5", n)
		}
	})
}

// synced counts the lines that were written, in total and before the last Sync.
type synced struct{ lines, atSync atomic.Int64 }

func (s *synced) Write(line []byte) (int, error) { s.lines.Add(1); return len(line), nil }

func (s *synced) Sync() error { s.atSync.Store(s.lines.Load()); return io.ErrClosedPipe }

func TestNothingIsLostUnderLoad(t *testing.T) {
	const writers, each, causes = 16, 2000, 5
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		log := throttle.Logger(zap.New(core), interval)
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				mine := log.With(zap.Int("writer", w))
				for i := range each {
					mine.Error("e", zap.String("category", fmt.Sprint(i%causes)), zap.Int("i", i))
					if i%500 == w {
						_ = log.Sync()
					}
					time.Sleep(time.Duration(w) * time.Millisecond)
				}
			})
		}
		all.Wait()
		_ = log.Sync()
		logged := make(map[string]int64)
		for _, entry := range logs.All() {
			context := entry.ContextMap()
			repeated, kept := context["repeated"].(int64)
			if !kept {
				repeated = 1
			}
			logged[context["category"].(string)] += repeated
		}
		want := make(map[string]int64)
		for i := range causes {
			want[fmt.Sprint(i)] = writers * each / causes
		}
		if diff := cmp.Diff(want, logged); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		// 30 s: a line at the begin and after each interval, and one for each Sync.
		if n := logs.Len(); n > causes*(1+3+4*writers+1) {
			t.Errorf("%d lines", n)
		}
	})
}

func TestOfManyPortalsTenAreSeparateCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		log := throttle.Logger(zap.New(core), interval)
		for range 2 { // after 20 s all causes are forgotten
			for range 3 {
				for portal := range 1000 {
					log.Warn("w", zap.String("portal", fmt.Sprint(portal)))
				}
			}
			log.Warn("v", zap.String("portal", "999"))
			if n := logs.Len(); n != 11+1 {
				t.Fatalf("%d lines at once, want one for each of ten portals, one for the others and one of another message", n)
			}
			time.Sleep(interval)
			synctest.Wait()
			repeated := make(map[string]any)
			for _, entry := range logs.TakeAll()[12:] {
				repeated[entry.ContextMap()["portal"].(string)] = entry.ContextMap()["repeated"]
			}
			want := map[string]any{"999": int64(3*990 - 1)}
			for portal := range 10 {
				want[fmt.Sprint(portal)] = int64(2)
			}
			if diff := cmp.Diff(want, repeated); diff != "" {
				t.Errorf("after the interval: -want +got\n%s", diff)
			}
			time.Sleep(interval)
			synctest.Wait()
		}
	})
}

func TestMemoryIsBoundedIfMessagesVary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		log := throttle.Logger(zap.New(core), interval)
		for range 2 {
			for i := range 1100 {
				log.Warn(fmt.Sprint(i))
			}
		}
		if n := logs.Len(); n != 1100+100 {
			t.Errorf("%d lines, want the second of 100 messages at once", n)
		}
		time.Sleep(2 * interval) // all causes are forgotten
		synctest.Wait()
		logs.TakeAll()
		for range 2 {
			log.Warn("new")
		}
		if n := logs.Len(); n != 1 {
			t.Errorf("%d lines of a new cause, want 1", n)
		}
	})
}
