-- Asks for the files of a list in turn, as their phones would; then says in one line of JSON what came of it.
-- Arguments: the list (path, tab, User-Agent), and "close" for a connection for each request.

local requests = {}
local next_one = 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local path, agent = line:match("^([^\t]*)\t(.*)$")
    local headers = { ["User-Agent"] = agent, Host = wrk.headers["Host"] }
    if arguments[2] == "close" then
      headers["Connection"] = "close"
    end
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('figures {"requests":%d,"seconds":%.6f,"failures":%d,"median":%.9f,"late":%.9f}\n',
    summary.requests, summary.duration / 1e6, failures, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
