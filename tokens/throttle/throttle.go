// Package throttle keeps a log readable while something fails many times a second: errors
// with the same cause are logged once per interval, with their number.
package throttle

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxCauses limits the memory that is used if messages vary. Entries of further causes are
// written without throttling.
const maxCauses = 1000

// maxPortals is the number of portals whose entries with the same level, message and category are
// separate causes. If more portals fail at once, they probably fail for the same reason, and the
// entries of further portals are one cause.
const maxPortals = 10

// Every is the interval of the program's throttled loggers.
const Every = 10 * time.Second

// Logger returns a throttled logger, which writes to log. It writes warnings and errors with the
// same cause once per interval. The first entry is written at once, and further entries within
// the interval are held back. At the end of the interval, the latest of these is written. Its
// field "repeated" has their number, and its time is the time of writing. Then the next interval
// begins. After an interval without an entry, the next entry of the cause is written at once
// again.
//
// The cause consists of the level, the message, and the string fields "category" and "portal", if
// there are any; the fields may come from With. Other fields do not count. So put nothing that
// varies into the message. If more than ten portals fail with the same level, message and category,
// the entries of further portals count as one cause. Fields are encoded when the entry is written.
//
// Entries below a warning or above an error are not throttled. Sync writes held back entries
// at once. The logger is safe for concurrent use if log is. It need not be closed, because
// it has no goroutine, only a timer for each cause.
func Logger(log *zap.Logger, interval time.Duration) *zap.Logger {
	causes := &causes{interval: interval, latest: make(map[cause]*kept), portals: make(map[cause]int)}
	return log.WithOptions(zap.WrapCore(func(wrapped zapcore.Core) zapcore.Core {
		return &core{Core: wrapped, causes: causes}
	}))
}

// core is the throttled zapcore.Core. with has the fields from With.
type core struct {
	zapcore.Core
	with   cause
	causes *causes
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{Core: c.Core.With(fields), with: c.with.having(fields), causes: c.causes}
}

func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level != zapcore.WarnLevel && entry.Level != zapcore.ErrorLevel {
		return c.Core.Check(entry, checked)
	}
	return checked.AddCore(entry, c)
}

func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	cause := c.with.having(fields)
	cause.level, cause.message = entry.Level, entry.Message
	if !c.causes.keep(cause, kept{core: c.Core, entry: entry, fields: fields}) {
		write(c.Core, entry, fields)
	}
	return nil
}

func (c *core) Sync() error {
	c.causes.writeAll()
	return c.Core.Sync()
}

// write calls Check before it writes the entry, because the core may be a tee whose parts have
// different levels.
func write(core zapcore.Core, entry zapcore.Entry, fields []zapcore.Field) {
	if checked := core.Check(entry, nil); checked != nil {
		checked.Write(fields...)
	}
}

type cause struct {
	level    zapcore.Level
	message  string
	category string
	portal   string // empty also stands for the portals that are not separate causes
}

// having returns the cause with the values of those fields that belong to a cause.
func (c cause) having(fields []zapcore.Field) cause {
	for _, field := range fields {
		switch {
		case field.Type != zapcore.StringType:
		case field.Key == "category":
			c.category = field.String
		case field.Key == "portal":
			c.portal = field.String
		}
	}
	return c
}

// ofAnyPortal returns the cause without its portal.
func (c cause) ofAnyPortal() cause {
	c.portal = ""
	return c
}

// kept is the latest held back entry of a cause.
type kept struct {
	core   zapcore.Core
	entry  zapcore.Entry
	fields []zapcore.Field
	n      int // number of entries held back since the last write
}

// causes are the causes that occurred within the last interval.
type causes struct {
	interval time.Duration

	mu      sync.Mutex // held while writing, so that Sync returns after all writes
	latest  map[cause]*kept
	portals map[cause]int // number of causes in latest, by the cause without its portal
}

// keep holds the entry back and returns true, or returns false if the entry must be written now.
func (c *causes) keep(cause cause, next kept) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.latest[cause]; !known && c.portals[cause.ofAnyPortal()] >= maxPortals {
		cause = cause.ofAnyPortal()
	}
	latest, known := c.latest[cause]
	if known {
		next.n = latest.n + 1
		next.fields = slices.Clone(next.fields) // the slice belongs to the caller
		*latest = next
	} else if len(c.latest) < maxCauses {
		c.latest[cause] = new(kept)
		c.portals[cause.ofAnyPortal()]++
		c.wait(cause)
	}
	return known
}

// wait begins an interval of the cause.
func (c *causes) wait(cause cause) {
	time.AfterFunc(c.interval, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.latest[cause].write() {
			c.wait(cause)
		} else {
			c.forget(cause)
		}
	})
}

func (c *causes) forget(cause cause) {
	delete(c.latest, cause)
	alike := cause.ofAnyPortal()
	if c.portals[alike]--; c.portals[alike] == 0 {
		delete(c.portals, alike)
	}
}

func (c *causes) writeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, latest := range c.latest {
		latest.write()
	}
}

// write writes the held back entry, and reports whether there was one.
func (k *kept) write() bool {
	if k.n == 0 {
		return false
	}
	k.entry.Time = time.Now() // so that the times in the log do not go back
	write(k.core, k.entry, append(k.fields, zap.Int("repeated", k.n)))
	*k = kept{}
	return true
}
