package tokens

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestASuccessDoesNotEndAPauseThatBeganDuringItsCall(t *testing.T) {
	var p pause
	now := time.Now()
	_ = p.extend("1", now, time.Minute, errors.New("429"))
	if p.endIfOver(now); p.check("1", now) == nil {
		t.Error("the pause has ended")
	}
	p.endIfOver(now.Add(time.Minute))
	if _, failures, err := p.last(); failures != 0 || err != nil {
		t.Errorf("after the pause: %d failures, %v", failures, err)
	}
}

func TestOfFailuresAtOnceOneBeginsAPause(t *testing.T) {
	var p pause
	now := time.Now()
	var began atomic.Int64
	var failing sync.WaitGroup
	for range 100 {
		failing.Go(func() {
			if _, first := p.extendIfOver("1", now, time.Minute, errors.New("unusable")); first {
				began.Add(1)
			}
		})
	}
	failing.Wait()
	if _, failures, _ := p.last(); began.Load() != 1 || failures != 1 {
		t.Errorf("%d pauses began, %d failures are counted", began.Load(), failures)
	}
}
