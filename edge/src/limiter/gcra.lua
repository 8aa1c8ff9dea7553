-- Counts one call against all of the keys, or against none when one of them refuses it (generic cell rate algorithm).
--
-- KEYS: one for each limit. ARGV: for each key, the time between two calls in microseconds, and the burst.
-- A key holds the time, in microseconds of this server's clock, at which the whole burst may be used again.
-- Returns the limit that is nearest, counted from 1; 1 when the call may be made, else 0; how many may follow at once;
-- and the microseconds until the burst is whole again, or for a refused call until another may be made.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local nearest
local counted = {}
for i, key in ipairs(KEYS) do
  local interval = tonumber(ARGV[2 * i - 1])
  local burst = tonumber(ARGV[2 * i])
  local whole = math.max(tonumber(redis.call('GET', key) or now), now) + interval
  local room = now + interval * burst - whole
  if room < 0 then
    return {i, 0, 0, math.ceil(-room)}
  end
  counted[i] = whole
  local remaining = math.floor(room / interval)
  if not nearest or remaining < nearest[3] then
    nearest = {i, 1, remaining, math.ceil(whole - now)}
  end
end
for i, key in ipairs(KEYS) do
  -- Not tostring, which rounds to 14 digits.
  redis.call('SET', key, string.format('%.0f', counted[i]), 'PX', math.ceil((counted[i] - now) / 1000))
end
return nearest
