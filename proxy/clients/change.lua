-- Changes the set of clients.
--
-- KEYS[1]  the set
-- ARGV[1]  channel of the events
-- ARGV[2]  the change, which decides what ARGV[3…] are:
--   'set'      FIELD VALUE      writes the field
--   'create'   FIELD VALUE      writes the field if it does not exist
--   'replace'  FIELD VALUE OLD  writes the field if its value is OLD
--   'delete'   FIELD            deletes the field
--   a version  FIELD VALUE …    restores the set of that version. These fields
--                               replace a set of an older version. They are
--                               added to a set of version 1
--
-- Returns {version of the set, number of changed fields}.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
-- A Lua number is a double: exact up to 2^53, which is in the year 2255.
if not (version and version >= 0 and version < 2^53) then
  version = 0 -- damaged
end
local changed = 0
if ARGV[2] == 'delete' then
  changed = redis.call('HDEL', KEYS[1], ARGV[3])
  if changed == 0 then
    -- No version: were Redis just emptied, that would make this the newest set.
    return {version, 0}
  end
elseif ARGV[2] == 'create' and redis.call('HGET', KEYS[1], ARGV[3]) then
  return {version, 0}
elseif ARGV[2] == 'replace' then
  if redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[5] then
    return {version, 0}
  end
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
  changed = 1
else
  local restored = tonumber(ARGV[2])
  if restored then
    if version >= restored then
      return {version, 0}
    end
    if version ~= 1 then
      redis.call('DEL', KEYS[1])
    end
  end
  for i = 3, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = changed + 1
  end
  version = restored or version
end
if version == 0 and not tonumber(ARGV[2]) then
  -- The first change of a set, or the first one since Redis was emptied. Whoever
  -- holds a set has a newer one, and stores it again, beside this change.
  version = 1
elseif not tonumber(ARGV[2]) then
  local now = redis.call('TIME')
  version = math.max(version + 1, now[1] * 1000000 + now[2])
end
local exact = string.format('%.0f', version)
redis.call('HSET', KEYS[1], 'version', exact)
-- pcall: a user who may not publish can still write; others see the change
-- when they read the set again.
redis.pcall('PUBLISH', ARGV[1], 'changed')
return {version, changed}
