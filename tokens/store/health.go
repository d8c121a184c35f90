package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Health is the one place that knows whether Redis answers: it sees each command
// of a client, whoever sends it. It is a hook of go-redis.
type Health struct {
	// Calls and Errors count commands, and those that failed.
	Calls, Errors atomic.Int64

	// onChange is called when Redis stops answering, with the reason, and when
	// it answers again, with nil.
	onChange atomic.Pointer[func(error)]

	now    func() time.Time
	asked  atomic.Bool  // at all
	silent atomic.Bool  // when last asked
	fault  atomic.Int64 // when a command last failed, in ns since 1970
}

// OnChange sets what is called when Redis stops answering, with the reason, and
// when it answers again, with nil.
func (h *Health) OnChange(f func(error)) { h.onChange.Store(&f) }

// Answers reports whether Redis answered when it was last asked. It does before
// it was asked.
func (h *Health) Answers() bool { return !h.silent.Load() }

// Answered reports whether Redis was asked, and answered when last asked.
func (h *Health) Answered() bool { return h.asked.Load() && h.Answers() }

// Steady reports whether no command has failed since t, except for those that
// met something that is no record.
func (h *Health) Steady(t time.Time) bool { return h.fault.Load() < t.UnixNano() }

// DialHook sees nothing: what cannot connect is a command that fails.
func (h *Health) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook sees a command.
func (h *Health) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		h.see(command, err)
		return err
	}
}

// ProcessPipelineHook sees each command of a pipeline or transaction.
func (h *Health) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		err := next(ctx, commands)
		for _, command := range commands {
			h.see(command, command.Err())
		}
		return err
	}
}

func (h *Health) see(command redis.Cmder, err error) {
	switch command.Name() {
	case "hello", "auth", "select", "client", // go-redis sends them for another, on a new connection
		"info": // a server need not tell
		return
	}
	h.Calls.Add(1)
	if errors.Is(err, context.Canceled) { // by the one who asked
		return
	}
	if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		h.answered()
		return
	}
	h.Errors.Add(1)
	var failure *Error
	if !errors.As(Failure("use Redis", err), &failure) || failure.OfRecord() {
		h.answered()
		return
	}
	h.fault.Store(h.now().UnixNano())
	if failure.Answered() {
		h.answered()
		return
	}
	h.asked.Store(true)
	if h.silent.CompareAndSwap(false, true) {
		h.changed(failure)
	}
}

func (h *Health) answered() {
	if !h.asked.Load() {
		h.asked.Store(true)
	}
	if h.silent.Load() && h.silent.CompareAndSwap(true, false) {
		h.changed(nil)
	}
}

func (h *Health) changed(err error) {
	if f := h.onChange.Load(); f != nil {
		(*f)(err)
	}
}
