-- For wrk: posts the bodies of a folder in turn and prints one line of JSON. Arguments: folder, number of bodies.

local started = 0

function setup(thread)
  thread:set("first", started)
  started = started + 17
end

function init(args)
  requests = {}
  for number = 0, tonumber(args[2]) - 1 do
    local file = assert(io.open(args[1] .. "/" .. number, "rb"))
    requests[number + 1] = wrk.format("POST", nil, nil, file:read("*a"))
    file:close()
  end
  sent = first
end

function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end

function done(summary, latency, _)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.2f, "p95_ms": %.2f, "p99_ms": %.2f, "max_ms": %.2f, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, errors.status, failed))
end
