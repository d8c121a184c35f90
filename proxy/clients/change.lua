-- Changes the set of clients.
--
-- KEYS[1]  the set
-- ARGV[1]  the version that it must have, 0 if there must be none; or 'any'
-- ARGV[2]  channel of the events
-- ARGV[3]  'set' to write the fields and values that follow, 'replace' to have
--          no others, 'delete' to delete one field
-- ARGV[4…] those
--
-- Answers {1 if changed, else 0; the version; how many fields changed}.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if ARGV[1] ~= 'any' and version ~= tonumber(ARGV[1]) then
  return {0, version, 0}
end
local changed = 0
if ARGV[3] == 'replace' then
  redis.call('DEL', KEYS[1])
end
if ARGV[3] == 'delete' then
  changed = redis.call('HDEL', KEYS[1], ARGV[4])
else
  for i = 4, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = changed + 1
  end
end
local now = redis.call('TIME')
version = math.max(version + 1, now[1] * 1000000 + now[2])
local exact = string.format('%.0f', version)
redis.call('HSET', KEYS[1], 'version', exact)
redis.pcall('PUBLISH', ARGV[2], exact)
return {1, version, changed}
