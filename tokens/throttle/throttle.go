// Package throttle keeps a log readable while something fails many times a
// second: errors of one cause are told once per interval, with their number.
package throttle

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxCauses bounds the memory, should a message vary after all. What comes
// beyond it is written as it is.
const maxCauses = 1000

// Every is the interval of the program's own loggers: how often the log reports one
// cause, however many requests meet it.
const Every = 10 * time.Second

// Logger returns a logger that writes what log does, but warnings and errors of
// one cause once per interval. The first is written at once. Those that follow
// within the interval are kept back, and at its end the latest of them is
// written, with the field "repeated": how many they were, itself included.
// Another interval begins with it; the cause is forgotten when one passes
// without any.
//
// The cause is the level, the message and the string field "category", if there
// is one, also of With. Other fields do not count, for they vary: put nothing
// that varies into the message. They are read when the line is written.
//
// What is below a warning, and what ends the program or may, passes untouched.
// Sync writes at once what is kept back. The logger is safe for concurrent use
// as log is, and needs no end: nothing runs but a timer for each cause.
func Logger(log *zap.Logger, interval time.Duration) *zap.Logger {
	causes := &causes{interval: interval, latest: make(map[cause]*kept)}
	return log.WithOptions(zap.WrapCore(func(wrapped zapcore.Core) zapcore.Core {
		return &core{Core: wrapped, causes: causes}
	}))
}

// core is a logger's core with the fields that With gave it.
type core struct {
	zapcore.Core
	category string
	causes   *causes
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{Core: c.Core.With(fields), category: category(fields, c.category), causes: c.causes}
}

func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level != zapcore.WarnLevel && entry.Level != zapcore.ErrorLevel {
		return c.Core.Check(entry, checked)
	}
	return checked.AddCore(entry, c)
}

func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	cause := cause{entry.Level, entry.Message, category(fields, c.category)}
	if !c.causes.keep(cause, kept{core: c.Core, entry: entry, fields: fields}) {
		write(c.Core, entry, fields)
	}
	return nil
}

func (c *core) Sync() error {
	c.causes.tellAll()
	return c.Core.Sync()
}

// write leaves it to the core, which may be several, where the entry goes to.
func write(core zapcore.Core, entry zapcore.Entry, fields []zapcore.Field) {
	if checked := core.Check(entry, nil); checked != nil {
		checked.Write(fields...)
	}
}

// category returns the category that the fields have, or else the former one.
func category(fields []zapcore.Field, former string) string {
	for _, field := range fields {
		if field.Key == "category" && field.Type == zapcore.StringType {
			return field.String
		}
	}
	return former
}

type cause struct {
	level    zapcore.Level
	message  string
	category string
}

// kept is the latest entry of a cause that was kept back.
type kept struct {
	core   zapcore.Core
	entry  zapcore.Entry
	fields []zapcore.Field
	n      int // how many were kept back since one was written
}

// causes are those of which something was written within the interval.
type causes struct {
	interval time.Duration

	mu     sync.Mutex // held while writing, so that Sync is after all that was kept back
	latest map[cause]*kept
}

// keep keeps the entry back, or reports that it is to be written.
func (c *causes) keep(cause cause, next kept) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest, known := c.latest[cause]
	if known {
		next.n = latest.n + 1
		next.fields = slices.Clone(next.fields) // they are the caller's
		*latest = next
	} else if len(c.latest) < maxCauses {
		c.latest[cause] = new(kept)
		c.wait(cause)
	}
	return known
}

// wait begins an interval.
func (c *causes) wait(cause cause) {
	time.AfterFunc(c.interval, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.latest[cause].tell() {
			c.wait(cause)
		} else {
			delete(c.latest, cause)
		}
	})
}

func (c *causes) tellAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, latest := range c.latest {
		latest.tell()
	}
}

// tell writes what was kept back, and reports whether there was any.
func (k *kept) tell() bool {
	if k.n == 0 {
		return false
	}
	write(k.core, k.entry, append(k.fields, zap.Int("repeated", k.n)))
	*k = kept{}
	return true
}
