-- No two request heads are alike, within a run and from run to run.
local head, number = nil, 0

init = function(args)
  head = wrk.format():sub(1, -3) .. "X-Varying: " .. string.format("%x-", os.time())
end

request = function()
  number = number + 1
  return head .. string.format("%08x", number) .. "\r\n\r\n"
end
