// Package budget gives calls their turns within HubSpot's rate limits, and counts
// them.
//
// # Turns
//
// HubSpot limits how many calls of an app for one portal it accepts within an interval,
// such as 100 in 10 seconds, and how many searches of CRM objects within a second. The
// intervals are rolling windows. All processes that share a Redis keep to these limits
// together: [Budget.Take] returns when the call may be sent.
//
//	turn, err := calls.Take(ctx, budget.Call{Portal: "62515", Client: "billing"}, wait, nil)
//	if refused := (*budget.RefusedError)(nil); errors.As(err, &refused) {
//		// no turn in time: answer 429, with refused.RetryAfter
//	}
//	sent := time.Now()
//	response, err := send()
//	turn.Answered(response.Header, sent)
//
// Redis has a window for each portal: how many calls were sent at which time. A process
// visits the window by running one script, which does three things: it reports the
// turns that the process has used, it reports what HubSpot's headers say, and it takes
// turns.
//
//   - The limit is far while the calls that were sent and the turns that were taken are
//     fewer than 70 % of it, minus one for each process (but not less than 50 %). A
//     process then takes turns in advance: as many as it has used within the last
//     interval, at least an equal share of a quarter of the limit, and at most half of
//     what is left below 75 % of the limit. It takes more when it has used three quarters
//     of them. So no request waits for Redis, and one visit serves ten calls or more. A
//     process that has not visited the window for an interval sends a twentieth of the
//     limit without a visit, and reports these calls later.
//   - Near the limit, each request needs a turn of its own. Redis gives the turn at once
//     or for a later time. Redis spreads the turns of calls that wait over the interval:
//     if all were given when the window has room again, a client that calls seldom
//     would wait a whole interval behind one that has used up the limit. While the
//     window has room, Redis refuses no request because of the spread.
//   - A call counts from the time at which it may have reached HubSpot: when the header
//     of the answer has come, or a fortieth of the interval (at least 50 ms) after it
//     was sent, if that is earlier. After a 429 of HubSpot's this margin grows, to a
//     quarter of the interval at most.
//
// Processes learn the limit from HubSpot's headers. Until a header has named a limit, it
// is 100 calls in 10 seconds. No header names the limit of searches, which is 5 in a
// second. HubSpot counts the calls of other programs too. If X-HubSpot-RateLimit-Remaining
// shows more calls than the window has, the difference is added to the window. If HubSpot
// answers 429, the window is filled up to the limit, which holds back all processes until
// the interval is over.
//
// In a process, turns go round the clients that wait for the same portal.
//
// While Redis does not answer, a process keeps to its share of the limit: the mean of an
// equal share and of its part of the recent calls.
//
// # Layout of Redis
//
// Keys begin with the prefix of package tokens/store, and all expire.
//
//	budget:{62515}         hash, expires an hour after the last visit: the window of
//	budget:{62515}:search  the portal's calls, and the window of its searches. All times
//	                       are µs since 1970 by Redis' clock
//	  limit, interval      as in HubSpot's headers
//	  tTIME                how many calls count from this time on, in steps of 1/250
//	                       of the interval; a time in the future is a reserved turn
//	  pPROCESS             the last visit of the process
//	  next                 the earliest turn of the next call that waits
//	  busy                 until when turns are spread
//	  held                 until when no turn is given
//	usage:{2026-11-28}     hash, expires after 35 days: calls of a day, UTC. The
//	                       fields are a portal, a space and a client's name,
//	                       empty for anonymous clients
//	usage:{2026-11-28}:done
//	                       hash, expires at the same time: the number of each process'
//	                       last addition, so that none is added twice
//	daily:{billing}:2026-11-28
//	                       string, expires after two days: how many of the day's calls
//	                       processes have reserved for a client with a daily limit
//
// The scripts use HGETALL, HGET, HSET, HDEL, HINCRBY, GET, SET, PEXPIRE and
// TIME.
package budget
