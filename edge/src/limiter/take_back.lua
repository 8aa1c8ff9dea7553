-- Takes back what was counted for a call that was not made after all.
--
-- KEYS and ARGV: as of gcra.lua.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
for i, key in ipairs(KEYS) do
  local whole = tonumber(redis.call('GET', key) or now) - tonumber(ARGV[2 * i - 1])
  if whole > now then
    redis.call('SET', key, string.format('%.0f', whole), 'PX', math.ceil((whole - now) / 1000))
  else
    redis.call('DEL', key)
  end
end
return 1
