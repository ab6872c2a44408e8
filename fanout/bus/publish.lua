-- Append and publish, once, in one step: the only way anything enters the log.
--
-- KEYS  1 log (stream)   2 retained (hash)   3 outcome of the idempotency key (string)   4 campaign (hash)
--       5 audit chain (list), if there is an entry to append
-- ARGV  1 doorbell channel          2 idempotency key            3 its digest (of what is being asked)
--       4 campaign id               5 body (msgpack)             6 idempotency TTL, seconds
--       7 log length limit          8 campaign version expected, "" to leave the record alone
--       9 new campaign record       10 which rev field of the record to set ("" for none)
--       11 put-back: the lost entry's own rev, "" for a new publication
--       12 deadline: refuse unless the revision is below this, "" for none
--       13 hash of the audit chain's last entry   14 the entry to append, "" for none
--       15.. retained fields to drop, because the new entry makes them history; put-back: newer ones of its
--            campaign that are not in its way, for they concern something else
--
-- A retained field is "<campaign> <rev>"; an entry that was put back under a later rev than its own has its
-- own as a third word, so that what was lost with it is still newer than it.
--
-- Returns {"done" | "repeated", rev, prev, digest}
--      or {"conflict", current version}            the record changed since it was read
--      or {"late", rev}                            the deadline has passed
--      or {"moved", hash}                          the audit chain has another last entry
--      or {"newer", rev}                           put-back: the store holds something newer that may be in its way

local first = redis.call('GET', KEYS[3])
if first then
  local rev, prev, digest = string.match(first, '^(%d+) (%d+) (%S*)$')
  return {'repeated', rev, prev, digest}
end

if ARGV[8] ~= '' then
  local version = redis.call('HGET', KEYS[4], 'version') or '0'
  if version ~= ARGV[8] then return {'conflict', version} end
end

if ARGV[14] ~= '' then
  local last = redis.call('LINDEX', KEYS[5], -1)
  local hash = last and string.sub(last, 1, 64) or string.rep('0', 64)
  if hash ~= ARGV[13] then return {'moved', hash} end
end

-- Revisions are Unix ms, about 2^41: exact in Lua's doubles, but they must not print as 1.7e+12.
local function text(n) return string.format('%.0f', n) end

local head = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local prev = 0
if head[1] then prev = tonumber(string.match(head[1][1], '^(%d+)')) end

local rev
if ARGV[11] ~= '' then
  local lost = tonumber(ARGV[11])
  -- Newer for its own campaign is what counts; the log may have moved on with other campaigns. And what the
  -- caller has not seen yet counts, whatever it is.
  local beside = {}
  for i = 15, #ARGV do beside[ARGV[i]] = true end
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    local owner, held, own = string.match(field, '^(%S+) (%d+) ?(%d*)$')
    if owner == ARGV[4] and (tonumber(own) or tonumber(held)) >= lost and not beside[field] then
      return {'newer', held}
    end
  end
  rev = math.max(prev + 1, lost)
else
  local time = redis.call('TIME')
  rev = math.max(prev + 1, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
end

if ARGV[12] ~= '' and rev >= tonumber(ARGV[12]) then return {'late', text(rev)} end

local entry = text(rev) .. ' ' .. text(prev) .. ' ' .. ARGV[2] .. ' ' .. ARGV[5]
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[7], text(rev) .. '-0',
           'prev', text(prev), 'key', ARGV[2], 'body', ARGV[5])
if ARGV[11] == '' then
  for i = 15, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
end
local field = ARGV[4] .. ' ' .. text(rev)
if ARGV[11] ~= '' and text(rev) ~= ARGV[11] then field = field .. ' ' .. ARGV[11] end
redis.call('HSET', KEYS[2], field, entry)
if ARGV[8] ~= '' then
  redis.call('HSET', KEYS[4], 'doc', ARGV[9], 'version', tonumber(ARGV[8]) + 1)
  if ARGV[10] ~= '' then redis.call('HSET', KEYS[4], ARGV[10], text(rev)) end
end
if ARGV[14] ~= '' then redis.call('RPUSH', KEYS[5], ARGV[14]) end
redis.call('SET', KEYS[3], text(rev) .. ' ' .. text(prev) .. ' ' .. ARGV[3], 'EX', ARGV[6])
redis.call('PUBLISH', ARGV[1], entry)
return {'done', text(rev), text(prev), ARGV[3]}
