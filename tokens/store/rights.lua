-- Finds the commands that the user of this connection may not send.
--
-- ARGV  commands with all their arguments, separated by spaces: some servers
--       crash when they are asked about one that lacks an argument
--
-- Answers the indexes of the commands that are refused, from 1; none where the
-- server is older than Redis 7 and cannot be asked.
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
