-- Adds a process' calls to those of a day, once.
--
-- KEYS[1]  the day's calls; KEYS[2] the number of each process' last addition
-- ARGV     process, number of the addition, milliseconds until both expire,
--          and for each field: name, calls
if tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for i = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
