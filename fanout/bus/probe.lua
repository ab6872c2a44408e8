-- Ring a reader's own probe channel, and say in the same step where the log stands.
--
-- KEYS  1 log (stream)
-- ARGV  1 probe channel   2 number of the probe
--
-- Publishes "<number> <newest rev, 0 for an empty log>". Whatever was published before it is delivered before
-- it, so a reader that hears it and stands elsewhere has missed something, or the store has lost something.
-- Returns TIME.

local head = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local rev = head[1] and string.match(head[1][1], '^(%d+)') or '0'
redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. rev)
return redis.call('TIME')
