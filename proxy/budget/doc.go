// Package budget gives calls their turns within HubSpot's rate limits, and counts
// them.
//
// # Turns
//
// HubSpot takes so many calls of an app for one portal within any interval, 100 in
// 10 seconds for example, and so many searches of CRM objects within any second. All
// processes that share a Redis keep to these limits together: [Budget.Take] returns
// when the call may be sent.
//
//	turn, err := calls.Take(ctx, budget.Call{Portal: "62515", Client: "billing"}, wait, nil)
//	if refused := (*budget.RefusedError)(nil); errors.As(err, &refused) {
//		// no turn in time: answer 429, with refused.RetryAfter
//	}
//	sent := time.Now()
//	response, err := send()
//	turn.Answered(response.Header, sent)
//
// Redis has a portal's window: how many calls were sent when. A process visits the
// window by one script, in which it reports what it has used, and what HubSpot's
// headers say, and takes turns.
//
//   - The limit is far while less than 70 % of it is used or taken, less one call for
//     each process (less than half of it, if that is more). A process then takes turns
//     in advance: as many as it has used within the last interval, or an equal share of
//     a quarter of the limit if that is more, up to half of what is left below 75 % of
//     the limit. It takes more when three quarters of them are used. So no request waits
//     for Redis, and a visit serves ten calls and more. A process that has not visited
//     the window for an interval sends a twentieth of the limit without a visit, and
//     reports it later.
//   - Otherwise each request has a turn of its own: at once, or at a time that Redis
//     reserves. Turns of those who wait are spread over the interval instead of being
//     given all at once as the window gets free, so that a client that calls now and
//     then is not held up for a whole interval by one that has used it up. No request
//     is refused because of that while the window has room.
//   - A call counts from when it may have reached HubSpot: until the header of the
//     answer has come, or a fortieth of the interval has passed, up to a quarter while
//     HubSpot answers 429 all the same.
//
// The limit is that of HubSpot's headers, 100 in 10 seconds until one was seen.
// HubSpot counts calls of other programs too: what X-HubSpot-RateLimit-Remaining
// shows beyond the window's own calls is added to the window. So is everything that is missing to
// the limit when HubSpot answers 429, which holds back all processes until the
// interval is over.
//
// In a process, turns go round the clients that wait for the same portal.
//
// Without Redis, a process keeps to its share of the limit: the mean of an equal
// share of each process, and of the share of the calls that it had.
//
// # Layout of Redis
//
// Keys begin with the prefix of package tokens/store, and all expire.
//
//	budget:{62515}         hash, expires an hour after the last visit: the window of
//	budget:{62515}:search  the portal's calls, and that of its CRM searches. All times
//	                       are µs since 1970 by Redis' clock
//	  limit, interval      as HubSpot's headers have them
//	  tTIME                how many calls count from this time on, in steps of 1/250
//	                       of the interval; later than now: reserved
//	  pPROCESS             when the process last visited
//	  next                 when the next of those who wait has its turn, at the earliest
//	  busy                 until when turns are spread
//	  held                 until when there are none
//	usage:{2026-11-28}     hash, expires after 35 days: calls of a day, UTC. The
//	                       fields are a portal, a space and a client's name,
//	                       empty for anonymous clients
//	usage:{2026-11-28}:done
//	                       hash, expires with it: the number of each process' last
//	                       addition, so that none is added twice
//	daily:{billing}:2026-11-28
//	                       string, expires after two days: how many of the day's calls
//	                       processes have reserved for a client with a daily limit
//
// The scripts use HGETALL, HGET, HSET, HDEL, HINCRBY, GET, SET, PEXPIRE and
// TIME.
package budget
