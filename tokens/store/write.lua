-- Writes a portal's record, if Redis still has the one that the writer knew.
--
-- KEYS[1]  the record
-- ARGV[1]  what it must be: grant, generation and state with spaces in between,
--          '0 0 ' for none; 'any' to replace whatever there is except a record of
--          a newer schema; 'force' to replace that, too
-- ARGV[2]  how to number it: 'set' for a credential that does not follow from
--          the former one, 'seed' for such a one of the settings, 'renew' for
--          the next one of the same grant, 'keep' for a record that has its
--          numbers
-- ARGV[3]  those numbers: the grant, ARGV[4] the generation
-- ARGV[5]  hash of the value if it is a seed, else '': a seed that was applied
--          before is not applied again
-- ARGV[6]  seeds to note if there is no record, or if the numbers are kept
-- ARGV[7]  channel of the hints
-- ARGV[8]  the portal
-- ARGV[9…] fields and values, the schema and the state first
--
-- Answers {1 if written, else 0; the grant; the generation, -1 if the numbers
-- are damaged; the state} of what is there afterwards.
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
-- A Lua number is a double: exact up to 2^53, which is in the year 2255.
local function exact(n)
  return string.format('%.0f', n)
end
local found = exact(grant) .. ' ' .. exact(generation) .. ' ' .. state
local schema = known[5] or ARGV[10]
if ARGV[1] == 'any' and (tonumber(schema) or 0) > tonumber(ARGV[10]) then
  return {0, grant, generation, 'schema ' .. schema}
end
if ARGV[1] ~= 'any' and ARGV[1] ~= 'force' and (ARGV[1] ~= found or schema ~= ARGV[10]) then
  return {0, grant, generation, state}
end
if ARGV[5] ~= '' then
  if string.find(seeds, ARGV[5], 1, true) then
    return {0, grant, generation, state}
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
-- pcall: a user who may not publish can still write; others see the change
-- when they read the record again.
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return {1, grant, generation, ARGV[14]}
