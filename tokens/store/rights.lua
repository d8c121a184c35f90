-- Finds the commands that the user of this connection may not send.
--
-- ARGV  commands with all their arguments, separated by spaces. Some servers crash
--       if an argument is missing
--
-- Returns the indexes of the refused commands, from 1. Servers older than Redis 7
-- cannot report rights; the script then returns no indexes.
local refused = {}
for i = 1, redis.acl_check_cmd and #ARGV or 0 do
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do
    words[#words + 1] = word
  end
  local asked, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if asked and not allowed then
    refused[#refused + 1] = i
  end
end
return refused
