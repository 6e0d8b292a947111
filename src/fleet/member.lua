-- Says that one process is there, or with ARGV[2] that it goes, and answers with how many are.
--
-- KEYS[1]: the fleet. ARGV[1]: the process. Who has said nothing for five seconds is gone.
local now = tonumber(redis.call('TIME')[1])
if ARGV[2] then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 5)
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
