-- Begins an epoch of the database, unless there is one.
--
-- KEYS[1]  the epoch
-- ARGV[1]  a random text
--
-- Answers {the epoch; 1 if it is new, else 0}.
local epoch = redis.call('GET', KEYS[1])
if epoch then
  return {epoch, 0}
end
local now = redis.call('TIME')
-- A Lua number is a double: exact up to 2^53, which is in the year 2255.
epoch = string.format('%.0f', now[1] * 1000000 + now[2]) .. '-' .. ARGV[1]
redis.call('SET', KEYS[1], epoch)
return {epoch, 1}
