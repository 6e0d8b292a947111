-- Adds what one process used of a quota, and answers with what all have used: a count, or nanoseconds.
--
-- KEYS: whose quota. ARGV[1]: how many milliseconds a calendar's count is kept; 0: the quota slides, and what was used is
-- the microseconds until it has come back. Then, for each key, what was used since the last report, and all that the
-- process knows of: that stands where nothing is known here, be it that the server has lost it.
local keep = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local all = {}
for i, key in ipairs(KEYS) do
  local change, used = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local known = tonumber(redis.call('GET', key) or '')
  if known and keep == 0 then
    known = math.max(known - now, 0)
  end
  if known then
    used = math.max(known + change, 0)
  end
  if keep > 0 then
    redis.call('SET', key, string.format('%.0f', used), 'PX', keep)
  elseif used > 0 then
    redis.call('SET', key, string.format('%.3f', now + used), 'PX', string.format('%.0f', math.ceil(used / 1000)))
  else
    redis.call('DEL', key)
  end
  all[i] = string.format('%.0f', keep > 0 and used or used * 1000)
end
return all
