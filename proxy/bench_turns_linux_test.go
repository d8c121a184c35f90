package proxy_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/redistest"
)

// BenchmarkTurns compares requests that have a turn within HubSpot's rate limit, far
// from it, with those that need none. It reports which part of the limit the requests
// of a portal use, and how many commands Redis gets for each request that has a turn:
// those that the process sends, and all, with those of scripts.
//
//	go test -run '^$' -bench Turns -benchtime 20000x ./proxy
//
// The highest limit that a budget learns is 10,000 calls in a second. Requests for one
// portal that come as fast as they can use more than half of it, and each of them then
// needs a turn of its own. So they are for ten portals, or slow.
func BenchmarkTurns(b *testing.B) {
	s, redis := newSite(b, 10), redistest.Start(b)
	on := s.startOurs(b, "REDIS_URL="+redis.URL(), "RATE_LIMIT_WAIT=30s")
	off := s.startOurs(b, "REDIS_URL="+redis.URL())
	on.awaitAddr(b)
	off.awaitAddr(b)
	for _, one := range []struct {
		workload
		portals int
	}{{workloads[0], 10}, {workloads[1], 10}, {workloads[3], 1}} {
		w := one.workload
		w.unlimited, w.portals = true, one.portals
		b.Run(fmt.Sprintf("%s/%d portals", w.name, w.portals), func(b *testing.B) {
			s.compare(b, side{"on", on, w}, side{"off", off, w}, 50)
			scripts, commands := redisCommands(redis)
			n, began := max(50, b.N/turns)*turns, time.Now()
			s.send(b, on, w, 50, n)
			perSecond := float64(n) / time.Since(began).Seconds()
			scriptsAfter, commandsAfter := redisCommands(redis)
			b.ReportMetric(perSecond/float64(w.portals)/unlimitedCalls, "of-limit")
			b.ReportMetric(float64(scriptsAfter-scripts)/float64(n), "scripts/req")
			b.ReportMetric(float64(commandsAfter-commands)/float64(n), "redis-commands/req")
		})
	}
}

var (
	evalCalls = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)
	allCalls  = regexp.MustCompile(`total_commands_processed:(\d+)`)
)

// redisCommands returns how many scripts Redis has run, and commands in all.
func redisCommands(redis *redistest.Server) (scripts, commands int) {
	text := redis.Do("INFO", "commandstats") + redis.Do("INFO", "stats")
	for pattern, n := range map[*regexp.Regexp]*int{evalCalls: &scripts, allCalls: &commands} {
		if found := pattern.FindStringSubmatch(text); found != nil {
			*n, _ = strconv.Atoi(found[1])
		}
	}
	return scripts, commands
}
