package budget_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// hub is HubSpot's rolling window of one portal.
type hub struct {
	mu       sync.Mutex
	limit    int
	interval time.Duration
	headers  bool
	calls    []time.Time // within the window
	taken    int
	refused  int
}

// call is one call, and HubSpot's answer.
func (h *hub) call() (header http.Header, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.calls = slices.DeleteFunc(h.calls, func(t time.Time) bool { return now.Sub(t) >= h.interval })
	if ok = len(h.calls) < h.limit; ok {
		h.calls = append(h.calls, now)
		h.taken++
	} else {
		h.refused++
	}
	header = make(http.Header)
	if h.headers {
		header.Set("X-HubSpot-RateLimit-Max", fmt.Sprint(h.limit))
		header.Set("X-HubSpot-RateLimit-Interval-Milliseconds", fmt.Sprint(h.interval.Milliseconds()))
		header.Set("X-HubSpot-RateLimit-Remaining", fmt.Sprint(max(0, h.limit-len(h.calls))))
	}
	return header, ok
}

func (h *hub) set(limit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = limit
}

func (h *hub) seen() (taken, refused int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken, h.refused
}

// newBudget returns a budget that is closed when the test ends.
func newBudget(t *testing.T, client redis.UniversalClient) *budget.Budget {
	b := budget.New(budget.Options{Redis: client, Prefix: "hubspot:"})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = b.Close(ctx)
	})
	return b
}

// processes returns budgets that share a Redis.
func processes(t *testing.T, redis *redistest.Server, n int) (all []*budget.Budget) {
	for range n {
		all = append(all, newBudget(t, redis.Client(t)))
	}
	return all
}

// workers call through the budgets as fast as they can, until the test has run for so
// long. They return how many calls were refused by a budget.
type workers struct {
	hub     *hub
	call    budget.Call
	wait    time.Duration
	pause   time.Duration
	refused atomic.Int64
	waits   []time.Duration
	mu      sync.Mutex
}

func (w *workers) run(ctx context.Context, b *budget.Budget) {
	for ctx.Err() == nil {
		began := time.Now()
		if !w.once(ctx, b) && ctx.Err() == nil {
			w.refused.Add(1)
		}
		w.mu.Lock()
		w.waits = append(w.waits, time.Since(began))
		w.mu.Unlock()
		if w.pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(w.pause):
			}
		}
	}
}

// once is one call, sent again as often as HubSpot answers 429.
func (w *workers) once(ctx context.Context, b *budget.Budget) bool {
	call, left := w.call, w.wait
	for {
		began := time.Now()
		turn, err := b.Take(ctx, call, left, nil)
		if err != nil {
			return false
		}
		left -= time.Since(began)
		sent := time.Now()
		header, ok := w.hub.call()
		turn.Answered(header, sent)
		if ok {
			return true
		}
		policy := "TEN_SECONDLY_ROLLING"
		if call.Search {
			policy = "SECONDLY"
		}
		turn.Rejected(policy)
		call.Again = true
	}
}

func (w *workers) quantile(q float64) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waits) == 0 {
		return 0
	}
	slices.Sort(w.waits)
	return w.waits[int(q*float64(len(w.waits)-1))]
}

// saturate lets ten workers of each process call as fast as they can.
func saturate(t *testing.T, all []*budget.Budget, w *workers, lasts time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var working sync.WaitGroup
	for _, b := range all {
		for range 10 {
			working.Go(func() { w.run(ctx, b) })
		}
	}
	working.Wait()
}

// The other tests, which keep the machine busy, run after this one: a call that is late
// by much meets the next window.
func TestProcessesUseTheLimitUpTogetherAndDoNotExceedIt(t *testing.T) {
	for _, search := range []bool{false, true} {
		t.Run(fmt.Sprintf("search %t", search), func(t *testing.T) {
			t.Parallel()
			h, lasts := &hub{limit: 100, interval: time.Second, headers: true}, 5*time.Second
			if search {
				h.limit, h.headers = 5, false
				lasts = 11 * time.Second // more than 50 calls
			}
			w := &workers{hub: h, call: budget.Call{Portal: "1", Client: "a", Search: search}, wait: time.Minute}
			saturate(t, processes(t, redistest.Start(t), 4), w, lasts)
			taken, refused := h.seen()
			allowed := int(lasts/h.interval) * h.limit
			t.Logf("%d calls of %d, %d of them 429", taken, allowed, refused)
			// The first of the few windows is spread, and the machine is busy.
			if w.refused.Load() > 0 || taken*100 < allowed*90 || refused*50 > taken {
				t.Errorf("%d calls were refused", w.refused.Load())
			}
		})
	}
}

func TestWhatAnotherProgramUsesIsLeftToIt(t *testing.T) {
	t.Parallel()
	h := &hub{limit: 100, interval: time.Second, headers: true}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var other sync.WaitGroup
	served, refused := 0, 0
	other.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond) // half of the limit
		defer ticker.Stop()
		for ctx.Err() == nil {
			if _, ok := h.call(); ok {
				served++
			} else {
				refused++
			}
			<-ticker.C
		}
	})
	w := &workers{hub: h, call: budget.Call{Portal: "1", Client: "a"}, wait: 10 * time.Second}
	saturate(t, processes(t, redistest.Start(t), 4), w, 5*time.Second)
	other.Wait()
	taken, rejected := h.seen()
	t.Logf("%d calls, %d of them another program's, whose calls were refused %d times; %d of all 429", taken, served, refused, rejected)
	if w.refused.Load() > 0 || taken < 400 || served < 150 {
		t.Errorf("%d calls were refused", w.refused.Load())
	}
}

func TestAClientThatCallsNowAndThenDoesNotWaitForTheOthers(t *testing.T) {
	t.Parallel()
	h := &hub{limit: 100, interval: time.Second, headers: true}
	all := processes(t, redistest.Start(t), 2)
	bulk := &workers{hub: h, call: budget.Call{Portal: "1", Client: "bulk"}, wait: time.Minute}
	slow := &workers{hub: h, call: budget.Call{Portal: "1", Client: "slow"}, wait: time.Minute, pause: 100 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var working sync.WaitGroup
	for i := range 200 {
		working.Go(func() { bulk.run(ctx, all[i%2]) })
	}
	working.Go(func() { slow.run(ctx, all[0]) })
	working.Wait()
	taken, _ := h.seen()
	t.Logf("%d calls, %d of the slow client, which waited %v in the median, %v at the 95th percentile", taken, len(slow.waits), slow.quantile(.5), slow.quantile(.95))
	if got := slow.quantile(.95); got > 200*time.Millisecond || len(slow.waits) < 30 {
		t.Errorf("the slow client waited %v", got)
	}
}

func TestWithoutRedisAProcessKeepsToItsShareAndTheLimitIsUsedAgainAfterwards(t *testing.T) {
	t.Parallel()
	h := &hub{limit: 100, interval: time.Second, headers: true}
	redis := redistest.Start(t)
	w := &workers{hub: h, call: budget.Call{Portal: "1", Client: "a"}, wait: 10 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
	defer cancel()
	var working sync.WaitGroup
	working.Go(func() { saturate(t, processes(t, redis, 4), w, 9*time.Second) })
	at := func(after time.Duration) (int, int) {
		select {
		case <-time.After(after):
		case <-ctx.Done():
		}
		return h.seen()
	}
	at(2 * time.Second)
	redis.Kill()
	downFrom, _ := at(time.Second)
	downUpto, _ := at(2 * time.Second)
	redis.Restart()
	upFrom, _ := at(2 * time.Second)
	working.Wait()
	upUpto, rejected := h.seen()
	t.Logf("%d a second without Redis, %d afterwards; %d 429", (downUpto-downFrom)/2, (upUpto-upFrom)/2, rejected)
	if w.refused.Load() > 0 || downUpto-downFrom < 150 || upUpto-upFrom < 170 {
		t.Errorf("%d calls were refused", w.refused.Load())
	}
}

func TestAnotherLimitIsLearnedAtOnce(t *testing.T) {
	t.Parallel()
	h := &hub{limit: 100, interval: time.Second, headers: true}
	w := &workers{hub: h, call: budget.Call{Portal: "1", Client: "a"}, wait: 10 * time.Second}
	var working sync.WaitGroup
	working.Go(func() { saturate(t, processes(t, redistest.Start(t), 4), w, 7*time.Second) })
	time.Sleep(2 * time.Second) // each sleep is a period of the load, not a wait for something
	h.set(50)
	time.Sleep(2 * time.Second)
	from, before := h.seen()
	time.Sleep(2 * time.Second)
	upto, after := h.seen()
	working.Wait()
	t.Logf("%d a second after the limit was cut to 50, %d 429 on the way and %d later", (upto-from)/2, before, after-before)
	if w.refused.Load() > 0 || upto-from < 85 || after-before > 2 {
		t.Errorf("%d calls were refused", w.refused.Load())
	}
}

func TestFarFromTheLimitNoCallWaitsForRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	b := processes(t, redis, 1)[0]
	take := func(n int) {
		t.Helper()
		for i := range n {
			began := time.Now()
			if _, err := b.Take(t.Context(), budget.Call{Portal: "1", Client: "a"}, time.Minute, nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 300*time.Millisecond {
				t.Errorf("call %d has waited %v", i, took)
			}
		}
	}
	redis.Pause() // the first calls need no visit
	take(3)
	redis.Resume()
	testkit.Eventually(t, "turns are taken in advance", func() bool { return redis.Do("HLEN", "hubspot:budget:{1}") > "6" })
	take(1)
	redis.Pause() // nor do these, whose turns are there
	take(8)
	redis.Resume()
}

var scriptCalls = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)

func TestFarFromTheLimitFewCallsNeedAVisitAndNoneWaits(t *testing.T) {
	t.Parallel()
	for n, most := range map[int]float64{1: .1, 4: .2} {
		t.Run(fmt.Sprintf("%d processes", n), func(t *testing.T) {
			t.Parallel()
			redis, h := redistest.Start(t), &hub{limit: 190, interval: time.Second, headers: true}
			all := processes(t, redis, n)
			ticker := time.NewTicker(h.interval * 5 / 2 / time.Duration(h.limit)) // two fifths of the limit
			defer ticker.Stop()
			var calling sync.WaitGroup
			var waited atomic.Int64
			const calls = 152 // of two intervals
			for i := range calls {
				<-ticker.C
				calling.Go(func() {
					turn, err := all[i%n].Take(t.Context(), budget.Call{Portal: "1", Client: "a"}, time.Minute, nil)
					if err != nil {
						t.Error(err)
					} else if turn.Waited > 0 {
						waited.Add(1)
					}
					sent := time.Now()
					header, _ := h.call()
					turn.Answered(header, sent)
				})
			}
			calling.Wait()
			visits := 0
			if found := scriptCalls.FindStringSubmatch(redis.Do("INFO", "commandstats")); found != nil {
				visits, _ = strconv.Atoi(found[1])
			}
			t.Logf("%d visits of %d calls, %d waited", visits, calls, waited.Load())
			if float64(visits) > most*calls || waited.Load() > calls/20 { // the machine is busy
				t.Error("that is too many")
			}
		})
	}
}
