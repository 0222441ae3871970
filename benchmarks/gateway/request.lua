-- wrk sends this one request again and again, and says in one JSON line what came of it.

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
wrk.body = '{"model":"mock","max_tokens":64,"temperature":0.7,"messages":[{"role":"system","content":'
    .. '"You are a helpful assistant."},{"role":"user","content":"What is the capital of France?"}]}'

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %f, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
