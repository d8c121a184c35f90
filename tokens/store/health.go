package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Health records whether Redis answers. As a hook of go-redis, it sees every command of a
// client, so no other part of the program needs to record this. [New] makes the Health of a
// Store; the zero value is not usable. A Health is safe for concurrent use.
type Health struct {
	// Calls is the number of commands, and Errors the number of those that failed.
	Calls, Errors atomic.Int64

	onChange atomic.Pointer[func(error)] // set by OnChange

	now    func() time.Time
	once   atomic.Bool  // whether Redis has ever answered
	silent atomic.Bool  // whether Redis did not answer the last command
	fault  atomic.Int64 // when Redis last failed, in ns since 1970
}

// OnChange sets the function that is called when Redis stops answering, with the reason, and
// when Redis answers again, with nil. Before Redis has answered for the first time, the function is
// not called, because the sender of the first command reports its error. The function may be called
// from several goroutines.
func (h *Health) OnChange(f func(error)) { h.onChange.Store(&f) }

// Answers reports whether Redis answered the last command. It returns true if no command was
// sent yet.
func (h *Health) Answers() bool { return !h.silent.Load() }

// Answered reports whether a command was sent and Redis answered the last one.
func (h *Health) Answered() bool { return h.once.Load() && h.Answers() }

// Steady reports whether Redis has not failed since t: neither a command nor a connection on which
// hints arrive. Commands that found something other than a record do not count as failed.
func (h *Health) Steady(t time.Time) bool { return h.fault.Load() < t.UnixNano() }

func (h *Health) failed() { h.fault.Store(h.now().UnixNano()) }

// DialHook does nothing. If a connection fails, the command that needs it fails too.
func (h *Health) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook records the result of a command.
func (h *Health) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		h.record(command, err)
		return err
	}
}

// ProcessPipelineHook records the result of each command of a pipeline or transaction.
func (h *Health) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		err := next(ctx, commands)
		for _, command := range commands {
			h.record(command, command.Err())
		}
		return err
	}
}

func (h *Health) record(command redis.Cmder, err error) {
	switch command.Name() {
	case "hello", "auth", "select", "client", // go-redis sends these on a new connection, before another command
		"info": // some servers refuse this command
		return
	}
	h.Calls.Add(1)
	if errors.Is(err, context.Canceled) { // the caller has canceled the command
		return
	}
	if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		h.answered()
		return
	}
	h.Errors.Add(1)
	failure, _ := errors.AsType[*Error](Failure("use Redis", err))
	if !failure.OfRecord() {
		h.failed()
	}
	if failure.Answered() {
		h.answered()
		return
	}
	if h.silent.CompareAndSwap(false, true) && h.once.Load() {
		h.changed(failure)
	}
}

func (h *Health) answered() {
	before := h.once.Load()
	if !before {
		h.once.Store(true)
	}
	if h.silent.Load() && h.silent.CompareAndSwap(true, false) && before {
		h.changed(nil)
	}
}

func (h *Health) changed(err error) {
	if f := h.onChange.Load(); f != nil {
		(*f)(err)
	}
}
