package statefile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// expireEvery is the interval at which miniredis' clock is advanced, so that keys expire.
	// That clock does not advance by itself.
	expireEvery = 250 * time.Millisecond

	// writeEvery is the interval at which changed keys that expire are written.
	writeEvery = 3 * expireEvery

	// tidyEvery is the interval at which the file is written anew if it has replaced entries,
	// so that secrets that were replaced, sealed or removed do not stay in the file.
	tidyEvery = 10 * time.Minute

	// rewritePause is the pause after a failure to write the file anew, if entries can still be
	// appended.
	rewritePause = time.Minute

	// complainEvery is the shortest interval between two log lines about a file that cannot be
	// written.
	complainEvery = time.Minute
)

// wallClock returns the current time without its monotonic reading. The monotonic clock can stop
// while the machine sleeps, and keys must expire in that time too.
func wallClock() time.Time { return time.Now().Round(0) }

// keep does the work that no command waits for, until the server is closed: keys expire, changed keys
// that expire are written, and the file is written anew when most of it is not in use.
func (s *Server) keep() {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	written, tidied := time.Now(), time.Now()
	for {
		select {
		case <-s.stop:
			return
		case <-s.wasteful:
			s.rewrite()
			continue
		case <-ticker.C:
		}
		s.expire()
		if time.Since(written) >= writeEvery {
			written = time.Now()
			s.catchUp()
		}
		if time.Since(tidied) >= tidyEvery {
			tidied = time.Now()
			s.tidy()
		}
	}
}

// catchUp writes the changed keys that are not written yet. If the file is broken, catchUp writes the
// whole file anew first. After an error, the next call tries again.
func (s *Server) catchUp() {
	s.gate.Lock()
	broken := s.disk.broken != nil
	s.gate.Unlock()
	if broken {
		s.rewrite()
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	_ = s.writeLater()
}

// expire advances miniredis' clock by the time that has passed, which deletes expired keys.
func (s *Server) expire() {
	s.gate.Lock()
	defer s.gate.Unlock()
	now := wallClock()
	if passed := now.Sub(s.clock); passed > 0 {
		s.redis.FastForward(passed)
	}
	s.clock = now
}

// current returns the entry for the content that a key has in miniredis now.
func (s *Server) current(key string) entry {
	db := s.redis.DB(0)
	e := entry{kind: db.Type(key), key: key}
	switch e.kind {
	case kindString:
		value, _ := db.Get(key) // it exists
		e.values = []string{value}
	case kindHash:
		fields, _ := db.HKeys(key) // it exists
		for _, field := range fields {
			e.values = append(e.values, field, db.HGet(key, field))
		}
	default:
		return entry{kind: kindGone, key: key}
	}
	if left := db.TTL(key); left > 0 {
		e.expires = s.clock.Add(left).UnixMilli()
	}
	return e
}

// restore sets a key in miniredis to the content of its entry in the file.
func (s *Server) restore(saved saved) {
	e, _ := parse(strings.TrimSuffix(saved.line, "\n")) // valid, because the line was read or written by this process
	left := time.UnixMilli(e.expires).Sub(s.clock)
	db := s.redis.DB(0)
	db.Del(e.key)
	if e.expires != 0 && left <= 0 {
		return
	}
	switch e.kind {
	case kindString:
		_ = db.Set(e.key, e.values[0]) // the key has no other type
	case kindHash:
		db.HSet(e.key, e.values...)
	}
	if e.expires != 0 {
		db.SetTTL(e.key, left)
	}
}

// writeTouched writes the keys that the last command has changed and that do not expire. If that
// fails, writeTouched gives these keys the content that they have in the file. Changed keys that
// expire are written later.
func (s *Server) writeTouched() error {
	batch := map[string]entry{}
	for key := range s.touched {
		switch now, old := s.current(key), s.kept[key]; {
		case now.expires != 0, now.kind == kindGone && (old.line == "" || old.expires != 0):
			s.later[key] = struct{}{}
		default:
			batch[key] = now
		}
	}
	err := s.write(batch)
	if err == nil {
		return nil
	}
	for key := range batch {
		if old, had := s.kept[key]; had {
			s.restore(old)
		} else {
			s.redis.DB(0).Del(key)
		}
	}
	return err
}

// writeLater writes the changed keys that writeTouched has not written. If that fails, the keys stay
// in s.later.
func (s *Server) writeLater() error {
	batch := map[string]entry{}
	for key := range s.later {
		batch[key] = s.current(key)
	}
	err := s.write(batch)
	if err == nil {
		clear(s.later)
	}
	return err
}

// write appends the entries of batch that differ from those in the file, and returns when they are on
// the disk. It logs an error, at most once every complainEvery.
func (s *Server) write(batch map[string]entry) error {
	var lines strings.Builder
	next := map[string]saved{}
	for key, e := range batch {
		line, old := e.line(), s.kept[key]
		if line == old.line || e.kind == kindGone && old.line == "" {
			continue
		}
		lines.WriteString(line)
		next[key] = saved{line, e.expires}
		if e.kind == kindGone {
			next[key] = saved{}
		}
	}
	if len(next) == 0 {
		return nil
	}
	if err := s.disk.append(lines.String()); err != nil {
		if time.Since(s.complained) >= complainEvery {
			s.complained = time.Now()
			s.log.Error("STATE_FILE cannot be written; until it can, changes of portals and client keys are refused, and renewed tokens are in memory only: "+spaceRemedy,
				zap.String("file", s.path), zap.NamedError("cause", cause(err)))
		}
		return err
	}
	if s.since != nil {
		s.since.WriteString(lines.String())
	}
	for key, saved := range next {
		s.setKept(key, saved)
	}
	s.checkWaste()
	return nil
}

func (s *Server) setKept(key string, next saved) {
	s.inUse += int64(len(next.line)) - int64(len(s.kept[key].line))
	if next.line == "" {
		delete(s.kept, key)
	} else {
		s.kept[key] = next
	}
}

// checkWaste makes keep write the file anew soon if most of the file is not in use.
func (s *Server) checkWaste() {
	if s.disk.size <= 2*s.inUse+s.waste || time.Now().Before(s.rewriteAfter) {
		return
	}
	select {
	case s.wasteful <- struct{}{}:
	default: // keep is about to write the file anew
	}
}

// tidy writes the file anew if some of its entries are not in use.
func (s *Server) tidy() {
	s.gate.Lock()
	s.dropExpired()
	tidy := s.disk.size == s.inUse+int64(len(header))
	s.gate.Unlock()
	if !tidy {
		s.rewrite()
	}
}

// rewrite writes the file anew, with the entries that are in use. Commands continue to run while the
// entries are written. If the new file cannot be written, the former file stays in use.
func (s *Server) rewrite() {
	s.gate.Lock()
	wasBroken := s.disk.broken != nil
	s.since = &strings.Builder{}
	s.dropExpired()
	lines := make([]string, 0, len(s.kept))
	for _, key := range slices.Sorted(maps.Keys(s.kept)) {
		lines = append(lines, s.kept[key].line)
	}
	s.gate.Unlock()
	next, err := s.disk.prepare(lines)
	s.gate.Lock()
	defer s.gate.Unlock()
	if err == nil {
		err = s.disk.replace(next, s.since.String())
	}
	s.since = nil
	if err != nil && !wasBroken {
		s.rewriteAfter = time.Now().Add(rewritePause)
		s.log.Warn("STATE_FILE cannot be written anew, and grows: "+spaceRemedy, zap.String("file", s.path), zap.NamedError("cause", cause(err)))
	}
}

// dropExpired removes expired keys from s.kept.
func (s *Server) dropExpired() {
	for key, old := range s.kept {
		if old.expires != 0 && old.expires <= s.clock.UnixMilli() {
			s.setKept(key, saved{})
		}
	}
}
