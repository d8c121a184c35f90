-- Writes a portal's record, if Redis still has the record that the writer expects.
--
-- KEYS[1]  key of the record
-- ARGV[1]  the expected record: grant, generation and state, separated by spaces, or
--          '0 0 ' for none. 'any' replaces every record except one of a newer
--          schema; 'force' replaces every record
-- ARGV[2]  numbering: 'set' for a portal that was set, connected or removed, 'seed'
--          for a seed, 'renew' for the next credential of the same grant, 'keep' to
--          keep the numbers
-- ARGV[3]  the grant to keep
-- ARGV[4]  the generation to keep
-- ARGV[5]  hash of the seed, or '' if the record is not a seed. A seed that was
--          applied before is not applied again
-- ARGV[6]  the record's seeds, used if Redis has no record or the numbers are kept
-- ARGV[7]  channel of the hints
-- ARGV[8]  the portal's id
-- ARGV[9…] fields and values; schema, kind and state are the first
--
-- Returns {1, grant, generation} if the record was written; {2, schema} if a newer
-- version of the program has written the record in Redis; otherwise {0, grant,
-- generation, state} of the record in Redis. generation is -1 if its numbers are
-- damaged. state is 1 for active, 2 for ended, 3 for removed, else 0
local known = redis.call('HMGET', KEYS[1], 'grant', 'generation', 'state', 'seeds', 'schema')
local missing = redis.call('EXISTS', KEYS[1]) == 0
local grant = tonumber(known[1] or '0')
local generation = tonumber(known[2] or '0')
local state = known[3] or ''
local seeds = known[4] or ARGV[6]

local function damaged(n)
  return not (n and n >= 0 and n < 2^53)
end
if damaged(grant) or damaged(generation) then
  grant, generation = 0, -1
end
-- Lua numbers are doubles, which are exact up to 2^53: until the year 2255.
local function exact(n)
  return string.format('%.0f', n)
end
local found = exact(grant) .. ' ' .. exact(generation) .. ' ' .. state
local schema = known[5] or ARGV[10]
if ARGV[1] == 'any' and (tonumber(schema) or 0) > tonumber(ARGV[10]) then
  return {2, tonumber(schema)}
end
if ARGV[1] ~= 'any' and ARGV[1] ~= 'force' and (ARGV[1] ~= found or schema ~= ARGV[10]) then
  return {0, grant, generation, ({active = 1, ended = 2, removed = 3})[state] or 0}
end
if ARGV[5] ~= '' then
  if string.find(seeds, ARGV[5], 1, true) then
    return {0, grant, generation, ({active = 1, ended = 2, removed = 3})[state] or 0}
  end
  seeds = seeds .. ' ' .. ARGV[5]
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[2] == 'keep' then
  grant, generation, seeds = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6]
elseif ARGV[2] == 'renew' then
  generation = math.max(generation + 1, now)
elseif ARGV[2] == 'seed' and missing then
  grant, generation = 1, 1
else
  grant = math.max(grant + 1, now)
  generation = math.max(generation + 1, grant)
end
redis.call('HSET', KEYS[1], 'grant', exact(grant), 'generation', exact(generation), 'seeds', seeds, unpack(ARGV, 9))
if ARGV[2] == 'set' or ARGV[2] == 'seed' then
  redis.call('HSET', KEYS[1], 'set_at', exact(now))
end
-- pcall, because a user without the right to publish can still write. Other
-- processes then see the change when they read the record again.
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return {1, grant, generation}
