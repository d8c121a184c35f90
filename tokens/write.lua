-- Writes a portal's record, if Redis still has the one that the writer knew.
--
-- KEYS[1]  the record
-- ARGV[1]  the generation that it must have, 0 if there must be none;
--          'any' to replace whatever there is, a tombstone too
-- ARGV[2]  'next' to give it a new generation, 'same' to keep it; 'set' is
--          'next' for a credential that does not follow from the former one:
--          set_at becomes now, and a tombstone may be replaced
-- ARGV[3]  hash of the value if it is a seed, else '': a seed that was applied
--          before is not applied again
-- ARGV[4]  seeds to note if there is no record
-- ARGV[5]  channel of the events
-- ARGV[6]  the portal
-- ARGV[7]  the new state
-- ARGV[8…] fields and values, the schema first
--
-- Answers {1 if written, else 0; the generation, -1 if it is damaged; the
-- state} of what is there afterwards.
local known = redis.call('HMGET', KEYS[1], 'generation', 'state', 'seeds', 'schema')
local generation = tonumber(known[1] or '0')
local state = known[2] or ''
local seeds = known[3] or ARGV[4]
local schema = known[4] or ARGV[9]

if not (generation and generation >= 0 and generation < 2^53) then
  generation = -1
end
local set = ARGV[2] == 'set'
if ARGV[1] ~= 'any' and (state == 'removed' and not set or schema ~= ARGV[9] or generation ~= tonumber(ARGV[1])) then
  return {0, generation, state}
end
if ARGV[3] ~= '' then
  if string.find(seeds, ARGV[3], 1, true) then
    return {0, generation, state}
  end
  seeds = seeds .. ' ' .. ARGV[3]
end
local now = redis.call('TIME')
if ARGV[2] ~= 'same' then
  generation = math.max(generation + 1, now[1] * 1000000 + now[2])
end
-- A Lua number is a double: exact up to 2^53, which is in the year 2255.
local exact = string.format('%.0f', generation)
redis.call('HSET', KEYS[1], 'generation', exact, 'seeds', seeds, unpack(ARGV, 8))
if set then
  redis.call('HSET', KEYS[1], 'set_at', string.format('%.0f', now[1] * 1000000 + now[2]))
end
-- pcall: a user who may not publish can still write; others see the change
-- when they read the record again.
redis.pcall('PUBLISH', ARGV[5], ARGV[6])
return {1, generation, ARGV[7]}
