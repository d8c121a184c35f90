package budget

import "time"

// use is n turns that were used at about the same time, or given back.
type use struct {
	at   time.Duration // -1 means that the turns were given back
	from int64         // when the turns were taken, by Redis' clock; 0 means that Redis does not know of them
	n    int
	sent bool // reported to Redis
}

// uses are the turns that a process has used within the last interval, and the turns that
// the process gives back, oldest first.
type uses struct {
	all        []use
	unreported int // turns that Redis does not know of
}

// add records that n turns were used.
func (u *uses) add(at time.Duration, from int64, n int, interval time.Duration) {
	if last := len(u.all) - 1; last >= 0 {
		l := &u.all[last]
		if l.from == from && !l.sent && l.at >= 0 && at-l.at < interval/250 {
			l.n += n
			u.countUnreported(*l, n)
			return
		}
	}
	u.prune(at - interval)
	u.all = append(u.all, use{at: at, from: from, n: n})
	u.countUnreported(u.all[len(u.all)-1], n)
}

func (u *uses) countUnreported(one use, n int) {
	if one.from == 0 && !one.sent {
		u.unreported += n
	}
}

// giveBack records that n turns were taken, and are not used.
func (u *uses) giveBack(from int64, n int) {
	u.all = append(u.all, use{at: -1, from: from, n: n})
}

// prune drops the uses before the time.
func (u *uses) prune(before time.Duration) {
	n := 0
	for n < len(u.all) && u.all[n].at < before && (u.all[n].at >= 0 || u.all[n].sent) {
		u.countUnreported(u.all[n], -u.all[n].n)
		n++
	}
	if n > 0 {
		u.all = append(u.all[:0], u.all[n:]...)
	}
}

// maxMoves is how many uses one visit reports.
const maxMoves = 256

// takeUnreported returns the uses that were not reported, and marks them as reported.
func (u *uses) takeUnreported() (moves []use) {
	for i := range u.all {
		if len(moves) == maxMoves {
			break
		}
		if one := &u.all[i]; !one.sent {
			moves = append(moves, *one)
			u.countUnreported(*one, -one.n)
			one.sent = true
		}
	}
	return moves
}

// forgetReports marks all uses as not reported, because Redis may have lost them.
func (u *uses) forgetReports() {
	u.unreported = 0
	for i := range u.all {
		one := &u.all[i]
		one.from, one.sent = 0, one.at < 0
		u.countUnreported(*one, one.n)
	}
}

// within returns how many turns were used after that time.
func (u *uses) within(after time.Duration) (n int) {
	for _, one := range u.all {
		if one.at >= 0 && one.at > after {
			n += one.n
		}
	}
	return n
}

// until returns the earliest time at which the interval before that time has at most n used
// turns.
func (u *uses) until(n int, interval time.Duration) (free time.Duration) {
	for i := len(u.all) - 1; i >= 0; i-- {
		if one := u.all[i]; one.at >= 0 {
			if n -= one.n; n < 0 {
				return one.at + interval
			}
		}
	}
	return 0
}
