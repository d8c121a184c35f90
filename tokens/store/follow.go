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
	// epochEvery is how often a follower asks for the epoch: a database can
	// lose its data without a connection being broken, as by FLUSHALL.
	epochEvery = 2 * time.Second

	// epochPause is how long a follower asks for the epoch at most once,
	// however many messages say that there is a new one.
	epochPause = 100 * time.Millisecond

	// silence is how long a subscription may send nothing, not even the
	// answer to a ping, until its connection counts as dead.
	silence = 4 * epochEvery

	// firstRetry is the first pause after Redis did not answer, and mostRetry
	// the longest one.
	firstRetry = 100 * time.Millisecond
	mostRetry  = 2 * time.Second

	// pollEvery is how often changes are polled for where the Redis user may not
	// subscribe, and subscribeEvery how often that right is tried again.
	pollEvery      = 4 * time.Second
	subscribeEvery = time.Minute
)

// A Follower receives what [Database.Follow] learns. Its functions are called
// one at a time, and must not block for long.
type Follower struct {
	// Connected is called with the epoch whenever messages begin to arrive, or
	// polling begins. What was sent before is lost.
	Connected func(Epoch)

	// Message is called with each message. A message is a hint to read, and
	// nothing more: anybody who may publish can have sent it.
	Message func(payload string)

	// Polled is called every few seconds, in place of messages, while the Redis
	// user has no right to subscribe: anything may have changed since the last
	// call.
	Polled func()

	// Failed is called when messages cannot arrive, and after each further
	// try. The error is an [*Error].
	Failed func(error)
}

// newEpoch is the message for the followers of the former epoch: there is a
// new one.
const newEpoch = "epoch"

// Follow passes on the messages of a channel until ctx ends. The name of the
// channel holds the epoch; when the epoch changes, Follow changes to the
// channel of the new one.
func (d Database) Follow(ctx context.Context, name string, f Follower) {
	former, pause := "", firstRetry
	for ctx.Err() == nil {
		epoch, err := d.Epoch(ctx)
		if err == nil {
			if epoch.New && former != "" {
				// The others would learn it within epochEvery.
				_ = d.publish(ctx, d.Channel(name, former), newEpoch)
			}
			former, pause = epoch.ID, firstRetry
			err = d.followEpoch(ctx, name, epoch, f)
		}
		if refused := (*Error)(nil); errors.As(err, &refused) && refused.Code == "NOPERM" && refused.Op == subscribing {
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
		pause = min(2*pause, mostRetry)
	}
}

// poll stands in for a subscription for a while, or until there is another epoch.
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

// followEpoch passes on the messages of one epoch. It returns nil when there is
// another one.
func (d Database) followEpoch(ctx context.Context, name string, epoch Epoch, f Follower) error {
	ctx, end := context.WithCancelCause(ctx)
	events := d.Redis.Subscribe(ctx, d.Channel(name, epoch.ID))
	defer events.Close()
	defer context.AfterFunc(ctx, func() { _ = events.Close() })() // which ends receiving
	w := watcher{database: d, epoch: epoch.ID, events: events, hurry: make(chan struct{}, 1)}
	w.heard()
	var watching sync.WaitGroup
	watching.Go(func() { end(w.watch(ctx)) })
	defer watching.Wait()
	defer end(nil)
	for {
		message, err := receive(ctx, events)
		if err != nil {
			if ended := context.Cause(ctx); ended != nil { // the epoch, or the one who asked
				return asChanged(ended)
			}
			return Failure(subscribing, err)
		}
		w.heard()
		switch message := message.(type) {
		case *redis.Subscription:
			f.Connected(epoch)
		case *redis.Message:
			if message.Payload == newEpoch {
				w.ask()
			} else {
				f.Message(message.Payload)
			}
		}
	}
}

const subscribing = "subscribe in Redis"

// errChanged ends the following of an epoch.
const errChanged = secret.Fault("the epoch has changed")

// asChanged returns nil if there is another epoch.
func asChanged(err error) error {
	if err == errChanged {
		return nil
	}
	return err
}

// receive waits for a message. go-redis panics on some answers, which no Redis
// gives.
func receive(ctx context.Context, events *redis.PubSub) (message any, err error) {
	defer func() {
		if recover() != nil {
			err = ErrShape
		}
	}()
	return events.Receive(ctx)
}

// watcher looks after one subscription.
type watcher struct {
	database Database
	epoch    string
	events   *redis.PubSub
	hurry    chan struct{} // has one element when the epoch is to be asked for at once
	last     atomic.Int64  // when something was received, in ns since 1970
}

func (w *watcher) heard() { w.last.Store(time.Now().UnixNano()) }

// ask makes the watcher ask for the epoch at once.
func (w *watcher) ask() {
	select {
	case w.hurry <- struct{}{}:
	default:
	}
}

// watch returns errChanged when the epoch is another one, and why no messages
// can arrive any more.
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
		if time.Since(time.Unix(0, w.last.Load())) > silence {
			return Failure(subscribing, secret.Fault("the connection is dead"))
		}
		if err := w.events.Ping(ctx); err != nil {
			return Failure(subscribing, err)
		}
	}
}
