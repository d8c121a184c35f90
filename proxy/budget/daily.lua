-- Reserves some of a client's calls of a day.
--
-- KEYS[1]  string: how many are reserved already
-- ARGV     the limit, how many are wanted at most, how many are given back (negative:
--          how many were sent without being reserved)
-- Returns  how many are reserved for the caller, and how many are left
local limit, wanted, back = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used = math.max(0, tonumber(redis.call('GET', KEYS[1]) or '0') - back)
local given = math.max(0, math.min(wanted, math.ceil((limit - used) / 20)))
redis.call('SET', KEYS[1], string.format('%.0f', used + given), 'EX', 172800)
return { given, math.max(0, limit - used - given) }
