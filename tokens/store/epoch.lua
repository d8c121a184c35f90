-- Begins an epoch of the database, unless there is one.
--
-- KEYS[1]  the epoch
-- ARGV[1]  a random text
--
-- Returns the epoch, which ends in ARGV[1] if it is new.
local epoch = redis.call('GET', KEYS[1])
if epoch then
  return epoch
end
local now = redis.call('TIME')
-- Lua numbers are doubles, which are exact up to 2^53: until the year 2255.
epoch = string.format('%.0f', now[1] * 1000000 + now[2]) .. '-' .. ARGV[1]
redis.call('SET', KEYS[1], epoch)
return epoch
