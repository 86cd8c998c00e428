-- One host of a thousand after the other: h0.bench.test to h999.bench.test. Formatted once.
local requests, number = {}, 0

init = function(args)
  for n = 0, 999 do
    requests[n] = "GET / HTTP/1.1\r\nHost: h" .. n .. ".bench.test\r\n\r\n"
  end
end

request = function()
  number = (number + 1) % 1000
  return requests[number]
end
