-- One path of a thousand after the other: /p0/x to /p999/x. Formatted once, so that this costs the load generator nothing.
local requests, number = {}, 0

init = function(args)
  for n = 0, 999 do
    requests[n] = wrk.format(nil, "/p" .. n .. "/x")
  end
end

request = function()
  number = (number + 1) % 1000
  return requests[number]
end
