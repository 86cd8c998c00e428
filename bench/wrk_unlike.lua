-- No two requests are alike, within a run and from run to run: path, cookie, request id, trace and nonce are new in each.
local random, format = math.random, string.format

init = function(args)
  local seed = io.open("/dev/urandom", "rb")
  local a, b, c, d = seed:read(4):byte(1, 4)
  seed:close()
  math.randomseed(((a * 256 + b) * 256 + c) * 128 + d)
end

local function hex16()
  return format("%08x%08x", random(0, 4294967295), random(0, 4294967295))
end

request = function()
  local session, id, trace, nonce = hex16(), hex16(), hex16(), hex16()
  return "GET /api/v1/items/" .. random(0, 99999999) .. "?page=" .. random(0, 9999) .. " HTTP/1.1\r\n"
    .. "Host: bench.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    .. "Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=" .. session .. id
    .. "; theme=dark\r\nX-Request-Id: " .. id .. trace .. "\r\ntraceparent: 00-" .. trace .. session .. "-" .. nonce
    .. "-01\r\nX-Nonce: " .. nonce .. id .. "\r\n\r\n"
end
