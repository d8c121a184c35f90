package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/secret"
)

const (
	// epochEvery is the interval at which a follower reads the epoch. A database can
	// lose its data while connections stay open, for example by FLUSHALL.
	epochEvery = 2 * time.Second

	// epochPause is the shortest interval between two reads of the epoch, even if
	// many messages report a new epoch.
	epochPause = 100 * time.Millisecond

	// deadAfter is the time after which a subscription's connection counts as dead
	// if nothing was received, including answers to pings.
	deadAfter = 4 * epochEvery

	// firstRetry and maxRetry are the first and the longest pause between tries while
	// Redis does not answer.
	firstRetry = 100 * time.Millisecond
	maxRetry   = 2 * time.Second

	// pollEvery is the interval of polling while the Redis user has no right to
	// subscribe. subscribeEvery is the interval at which subscribing is tried again.
	pollEvery      = 4 * time.Second
	subscribeEvery = time.Minute
)

// A Follower has the functions that [Database.Follow] calls. Follow calls them one at a time.
// They must not block for long.
type Follower struct {
	// Connected is called with the epoch whenever messages begin to arrive, or
	// polling begins. Messages that were sent before are lost.
	Connected func(Epoch)

	// Message is called with each message. A message is only a hint to read records
	// again, because anyone with the right to publish may have sent it.
	Message func(payload string)

	// Polled is called every few seconds instead of Message while the Redis user has
	// no right to subscribe. Any record may have changed since the last call.
	Polled func()

	// Failed is called when messages cannot arrive, and again after each further try.
	// The error is an [*Error].
	Failed func(error)
}

// newEpoch is the message on the former epoch's channel that there is a new epoch.
const newEpoch = "epoch"

// Follow calls f's functions for the messages of a channel until ctx ends. The channel's name
// contains the epoch. When the epoch changes, Follow subscribes to the channel of the new
// epoch.
func (d Database) Follow(ctx context.Context, name string, f Follower) {
	former, pause := "", firstRetry
	for ctx.Err() == nil {
		epoch, err := d.Epoch(ctx)
		if err == nil {
			if epoch.New && former != "" {
				// Without this message, the others notice the new epoch after
				// epochEvery.
				_ = d.publish(ctx, d.Channel(name, former), newEpoch)
			}
			former, pause = epoch.ID, firstRetry
			err = d.followEpoch(ctx, name, epoch, f)
		}
		if refused, is := errors.AsType[*Error](err); is && refused.Code == "NOPERM" && refused.Op == subscribing {
			err = d.poll(ctx, epoch, f)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		f.Failed(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, maxRetry)
	}
}

// poll polls for subscribeEvery, or until the epoch changes.
func (d Database) poll(ctx context.Context, epoch Epoch, f Follower) error {
	f.Connected(epoch)
	for until := time.Now().Add(subscribeEvery); time.Now().Before(until); {
		f.Polled()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollEvery + rand.N(pollEvery/5)):
		}
		if current, err := d.Epoch(ctx); err != nil || current.ID != epoch.ID {
			return err
		}
	}
	return nil
}

func (d Database) publish(ctx context.Context, channel, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return Failure("publish in Redis", d.Redis.Publish(ctx, channel, payload).Err())
}

// followEpoch calls f's functions for the messages of one epoch. It returns nil when the epoch
// has changed.
func (d Database) followEpoch(ctx context.Context, name string, epoch Epoch, f Follower) error {
	ctx, end := context.WithCancelCause(ctx)
	events := d.Redis.Subscribe(ctx, d.Channel(name, epoch.ID))
	defer events.Close()
	defer context.AfterFunc(ctx, func() { _ = events.Close() })() // ends a waiting Receive
	w := watcher{database: d, epoch: epoch.ID, events: events, hurry: make(chan struct{}, 1)}
	w.received()
	var watching sync.WaitGroup
	watching.Go(func() { end(w.watch(ctx)) })
	defer watching.Wait()
	defer end(nil)
	for {
		message, err := receive(ctx, events)
		if err != nil {
			switch ended := context.Cause(ctx); ended {
			case nil:
				return Failure(subscribing, err)
			case errChanged:
				return nil
			default: // ctx has ended, or messages can no longer arrive
				return ended
			}
		}
		w.received()
		switch message := message.(type) {
		case *redis.Subscription:
			f.Connected(epoch)
		case *redis.Message:
			if message.Payload == newEpoch {
				w.checkNow()
			} else {
				f.Message(message.Payload)
			}
		}
	}
}

const subscribing = "subscribe in Redis"

// errChanged ends followEpoch when the epoch has changed.
const errChanged = secret.Fault("the epoch has changed")

// receive waits for a message. go-redis panics on some invalid answers, which receive turns
// into an error.
func receive(ctx context.Context, events *redis.PubSub) (message any, err error) {
	defer func() {
		if recover() != nil {
			err = ErrShape
		}
	}()
	return events.Receive(ctx)
}

// watcher checks one subscription: whether the epoch has changed, and whether the connection
// is dead.
type watcher struct {
	database Database
	epoch    string
	events   *redis.PubSub
	hurry    chan struct{} // has one element if the epoch is to be read at once
	last     atomic.Int64  // when something was last received, in ns since 1970
}

func (w *watcher) received() { w.last.Store(time.Now().UnixNano()) }

// checkNow makes the watcher read the epoch at once.
func (w *watcher) checkNow() {
	select {
	case w.hurry <- struct{}{}:
	default:
	}
}

// watch returns errChanged when the epoch has changed, and another error when messages can no
// longer arrive. It returns nil when ctx ends.
func (w *watcher) watch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(epochPause):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.hurry:
		case <-time.After(epochEvery + rand.N(epochEvery/5)):
		}
		switch epoch, err := w.database.Epoch(ctx); {
		case err != nil:
			return err
		case epoch.ID != w.epoch:
			return errChanged
		}
		if time.Since(time.Unix(0, w.last.Load())) > deadAfter {
			return Failure(subscribing, secret.Fault("the connection is dead"))
		}
		if err := w.events.Ping(ctx); err != nil {
			return Failure(subscribing, err)
		}
	}
}
