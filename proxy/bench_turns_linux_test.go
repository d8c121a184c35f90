package proxy_test

import (
	"regexp"
	"strconv"
	"testing"

	"hubspot-auth-proxy/tokens/redistest"
)

// BenchmarkTurns compares requests that have a turn within HubSpot's rate limit, far
// from it, with those that need none, and reports how many commands Redis gets for each
// request of the former: those that the process sends, and those of scripts besides.
//
//	go test -run '^$' -bench Turns -benchtime 20000x ./proxy
func BenchmarkTurns(b *testing.B) {
	s, redis := newSite(b, 10), redistest.Start(b) // one portal would be at more than half of the highest limit that is taken in
	on := s.startOurs(b, "REDIS_URL="+redis.URL(), "RATE_LIMIT_WAIT=30s")
	off := s.startOurs(b, "REDIS_URL="+redis.URL())
	on.awaitAddr(b)
	off.awaitAddr(b)
	for _, w := range []workload{workloads[0], workloads[1]} {
		b.Run(w.name, func(b *testing.B) {
			w.unlimited, w.portals = true, 10
			s.compare(b, side{"on", on, w}, side{"off", off, w}, 50)
			scripts, commands := redisCommands(redis)
			n := max(50, b.N/turns) * turns
			s.send(b, on, w, 50, n)
			scriptsAfter, commandsAfter := redisCommands(redis)
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
