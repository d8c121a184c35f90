-- One visit of a process to the window of a portal's calls: reports, and takes turns.
--
-- KEYS[1]  hash, as the package comment describes it
-- ARGV     process, limit and interval (as HubSpot's headers have changed them, else 0),
--          the limit and interval to assume if the window has none,
--          rejected (the interval of the limit that HubSpot's 429 named, or 0),
--          observed, observed_from, observed_to (how many calls HubSpot counts by an
--          answer's header, -1 means no answer; how long ago the call was sent, and
--          answered),
--          wanted (how many turns the process has used within the last interval, so that
--          it takes as many in advance, -1 means none), has (how many it still has),
--          the number of moves, and for each: from, age, count,
--          the number of asks, and for each: wait, light (1 if the client has had few
--          turns)
-- Returns  limit, interval, processes, used, far, stock, from, spacing,
--          and for each ask: delay (negative means refused: no turn comes before that),
--          from
--
-- All times are in µs, by Redis' clock. A call counts from the end of the step that
-- it was in, so that it counts too long rather than too short.
local key, clock = KEYS[1], redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local next_arg = 0
local function arg()
  next_arg = next_arg + 1
  return tonumber(ARGV[next_arg])
end
local function text(number) return string.format('%.0f', number) end

local process = ARGV[1]
next_arg = 1
local seen_limit, seen_interval, default_limit, default_interval, rejected = arg(), arg(), arg(), arg(), arg()

local counts, seen_processes, stored = {}, {}, {}
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local kind, value = string.sub(fields[i], 1, 1), tonumber(fields[i + 1])
  if kind == 't' then
    counts[tonumber(string.sub(fields[i], 2))] = value
  elseif kind == 'p' then
    seen_processes[fields[i]] = value
  else
    stored[fields[i]] = value
  end
end
local limit = seen_limit > 0 and seen_limit or stored.limit or default_limit
local interval = seen_interval > 0 and seen_interval or stored.interval or default_interval
local step = math.floor(interval / 250)
local window = interval + math.floor(interval / 400) -- a margin for inexact times
-- A clock that was set back leaves times far in the future, which are ignored.
local ahead = now + interval + 60000000
local busy, held = math.min(stored.busy or 0, now + interval), math.min(stored.held or 0, now + interval)
local next_turn = math.min(stored.next or 0, ahead)

local changed, removed = {}, {}
local function step_of(time) return math.ceil(time / step) * step end
local function add(time, n)
  local at = step_of(time)
  counts[at] = (counts[at] or 0) + n
  changed[at] = true
  return at
end
local oldest = now - window - math.floor(interval / 4)
for at in pairs(counts) do
  if at < oldest or at > ahead + step then
    counts[at] = nil
    removed[#removed + 1] = 't' .. text(at)
  end
end
local processes = 1
for name, at in pairs(seen_processes) do
  if at < now - math.max(interval, 10000000) then
    removed[#removed + 1] = name
  elseif name ~= 'p' .. process then
    processes = processes + 1
  end
end

local observed, observed_from, observed_to = arg(), arg(), arg()
local wanted, has = arg(), arg()

-- Moves: turns that were used later than they were taken, or given back (a negative
-- age).
for _ = 1, arg() do
  local from, age, n = arg(), arg(), arg()
  if counts[from] then
    counts[from] = math.max(0, counts[from] - n)
    changed[from] = true
  end
  if age >= 0 and now - age > oldest then add(now - age, n) end
end

local function sum(after, upto)
  local n = 0
  for at, count in pairs(counts) do
    if at > after and at <= upto then n = n + count end
  end
  return n
end

-- Calls that HubSpot counts and the window does not have are those of other
-- programs.
if observed > 0 then
  local missing = math.min(observed, limit) - sum(now - observed_from - window, now - observed_to + step)
  if missing > 0 then add(now - observed_to, missing) end
end
if rejected > 0 then
  busy = now + interval
  if rejected < interval then
    held = math.max(held, now + rejected)
  else
    local missing = limit - sum(now - window, now + step)
    if missing > 0 then add(now, missing) end
  end
end

-- The turns that count now, and those that are taken for later, oldest first.
local times, used = {}, 0
for at, count in pairs(counts) do
  if at > now - window and count > 0 then
    times[#times + 1] = at
    used = used + count
  end
end
table.sort(times)

-- earliest returns when the window has room for one more call.
local function earliest()
  local excess = used - (limit - 1)
  if excess <= 0 then return math.max(now, held) end
  for _, at in ipairs(times) do
    excess = excess - counts[at]
    if excess <= 0 then return math.max(now, held, at + window) end
  end
end

-- spacing_from returns the time between turns, from begin on, at which the window has
-- room for each. It is a tenth shorter, to make up for turns that are used late.
local function spacing_from(begin)
  local rate, room = limit / window, limit - used
  for _, at in ipairs(times) do
    if at + window <= begin then
      room = room + counts[at]
    else
      if room >= 0 then rate = math.min(rate, (room + 1) / (at + window - begin)) end
      room = room + counts[at]
    end
  end
  return math.floor(1 / (1.1 * rate))
end
local spacing = 0

local function take(turn)
  local at, is_new = step_of(turn), not counts[step_of(turn)] or counts[step_of(turn)] == 0
  add(turn, 1)
  used = used + 1
  if is_new then
    times[#times + 1] = at
    table.sort(times)
  end
  return at
end

local answers = {}
for _ = 1, arg() do
  local wait, light = arg(), arg() == 1
  local first = earliest()
  local turn, paced = first, not light and (busy > now or used >= 0.8 * limit)
  if paced then turn = math.max(first, next_turn) end
  if turn - now > wait then turn = first end
  if turn > now then busy = math.max(busy, now + interval) end
  if turn - now > wait or turn > ahead then
    answers[#answers + 1] = math.floor(now - turn)
    answers[#answers + 1] = 0
  else
    if paced then
      spacing = spacing_from(turn)
      next_turn = math.max(next_turn, turn - 2 * spacing) + spacing
    end
    answers[#answers + 1] = math.floor(turn - now)
    answers[#answers + 1] = take(turn)
  end
end

-- The process gives back what it still has when it takes turns in advance. Each process
-- may have sent a call that it has not reported.
local taken = used - has
local near = 0.7 * limit - math.min(processes, 0.2 * limit)
local far, stock, from = busy <= now and held <= now and taken < near, 0, 0
if far and wanted >= 0 then
  -- An equal share of a quarter of the limit at least, for calls that come all at once.
  stock = math.floor(math.min(math.max(wanted, limit / 4 / processes), (0.75 * limit - taken) / 2))
  if stock > 0 then from = add(now, stock) end
end

local sets = { 'limit', text(limit), 'interval', text(interval), 'busy', text(busy), 'next', text(next_turn), 'held', text(held), 'p' .. process, text(now) }
for at in pairs(changed) do
  if counts[at] and counts[at] > 0 then
    sets[#sets + 1] = 't' .. text(at)
    sets[#sets + 1] = text(counts[at])
  else
    removed[#removed + 1] = 't' .. text(at)
  end
end
redis.call('HSET', key, unpack(sets))
for i = 1, #removed, 1000 do
  redis.call('HDEL', key, unpack(removed, i, math.min(i + 999, #removed)))
end
redis.call('PEXPIRE', key, 3600000)

if spacing == 0 then spacing = spacing_from(math.max(now, next_turn)) end
local reply = { limit, interval, processes, used, far and 1 or 0, stock, from, spacing }
for _, value in ipairs(answers) do reply[#reply + 1] = value end
return reply
