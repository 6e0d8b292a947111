#!/usr/bin/env python3
"""A million clients through the running proxy: what they cost, and whether the heavy ones are known.

    zipf.py                                     # 1,000,000 clients, ledger in SQLite
    zipf.py --store memory --only memory

First clients are drawn by Zipf's law with exponent 1.1, and who is ranked first is held against a count over the access
log. Then each asks once, in turn, and memory and sums are looked at. Then rounds of one client and of many, by the same
load, are compared; those want the machine to themselves.
"""

import argparse
import collections
import json
import statistics
import time

from world import World, cpu, memory, stop, until

LOAD = """
local clients, every = tonumber(os.getenv("CLIENTS")), tonumber(os.getenv("EVERY"))
local one = os.getenv("ONE") == "1"
math.randomseed(os.time())
-- Rejection-inversion (Hoermann and Derflinger, 1996): a table of so many would push the proxy's out of the caches.
local S = 1.1
local function area(x) return x ^ (1 - S) / (1 - S) end
local function back(y) return ((1 - S) * y) ^ (1 / (1 - S)) end
local first, last = area(1.5) - 1, area(clients + 0.5)
local always = 2 - back(area(2.5) - 2 ^ -S)
local function drawn()
  while true do
    local y = last + math.random() * (first - last)
    local x = back(y)
    local rank = math.min(math.max(math.floor(x + 0.5), 1), clients)
    if rank - x <= always or y >= area(rank + 0.5) - rank ^ -S then return rank end
  end
end
local number, walked = 0, 0
local headers = {}
request = function()
  number = number + 1
  local rank
  if every > 0 and number % every == 0 then
    walked = walked % clients + 1
    rank = walked
  else
    rank = drawn()
  end
  -- A text that is new costs wrk several microseconds: one client says as many of them, elsewhere.
  headers[one and "x-api-nil" or "x-api-key"] = "client-" .. rank
  headers[one and "x-api-key" or "x-api-nil"] = "client-0"
  return wrk.format("GET", "/", headers)
end
"""


def lines_in(log):
    with open(log, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def load(world, tidegate, log, lines, every, options):
    """Asks until the log has so many lines; the most memory meanwhile."""
    wrk = world.wrk(LOAD, 3_600, CLIENTS=options.clients, EVERY=every)
    most = 0.0
    while lines_in(log) < lines:
        time.sleep(1)
        most = max(most, memory(tidegate))
    stop(wrk)
    until("all lines are written", lambda: world.metric("http_server_request_duration_seconds_count") == lines_in(log))
    return most


def counted(log):
    """By client, from the log: requests, and milliseconds at the upstream."""
    requests, cost = collections.Counter(), collections.Counter()
    with open(log) as file:
        for line in map(json.loads, file):
            requests[line["client"]] += 1
            cost[line["client"]] += line["connect_ms"] + line["wait_ms"] + line["body_ms"]
    return requests, cost


def recall(world, requests, cost):
    """How many of the true top hundred are among those that Tidegate ranks first, or names in its metrics."""
    for sort, truth in (("requests", requests), ("cost", cost)):
        top = {client for client, _ in truth.most_common(100)}
        rows = world.json(f"/api/v1/clients?sort={sort}&limit=100")["clients"]
        exported = world.get("/metrics")
        named = sum(f'tidegate_client_requests_total{{client="{client}"' in exported for client in top)
        first = len({row["client"] for row in rows} & top)
        print(f"  of the true top 100 by {sort}: {first} ranked among the first 100, {named} in /metrics")


def round_of(world, tidegate, options, one):
    """Requests a second, and the proxy's microseconds of processor time a request."""
    name = "http_server_request_duration_seconds_count"
    wrk = world.wrk(LOAD, options.seconds + 3, CLIENTS=options.clients, EVERY=0, ONE=int(one))
    time.sleep(1.5)
    before, busy, began = world.metric(name), cpu(tidegate), time.monotonic()
    time.sleep(options.seconds)
    after, spent, took = world.metric(name), cpu(tidegate) - busy, time.monotonic() - began
    wrk.wait()
    return (after - before) / took, spent / (after - before) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=1_000_000, help="drawn by Zipf's law before each client asks")
    parser.add_argument("--store", choices=["sqlite", "memory", "postgres"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--only", choices=["memory", "speed"])
    options = parser.parse_args()
    with World() as world:
        world.nginx()
        stores = {"sqlite": f"sqlite:{world.path}/usage.db", "memory": "memory"}
        store = stores.get(options.store) or world.postgres()
        log = world.path / "access.log"
        tidegate = world.tidegate(store, log if options.only != "speed" else "/dev/null")
        wrk = world.wrk(LOAD, 5, CLIENTS=options.clients, EVERY=0, ONE=1)
        wrk.wait()
        time.sleep(5)
        if options.only != "speed":
            before = memory(tidegate)
            most = load(world, tidegate, log, options.requests, 0, options)
            requests, cost = counted(log)
            print(f"drawn by Zipf's law: {sum(requests.values())} requests of {len(requests)} clients")
            recall(world, requests, cost)
            # A few more, since wrk draws some requests that it does not send.
            walked = options.requests + options.clients * 21 // 20
            most = max(most, load(world, tidegate, log, walked, 1, options))
            time.sleep(10)
            after = memory(tidegate)
            requests, _ = counted(log)
            print(f"and each once: {sum(requests.values())} requests of {len(requests)} clients")
            print(f"  memory: {before:.1f} MiB, at most {most:.1f}, then {after:.1f}: {after - before:+.1f}")
            labels = world.metric("tidegate_client_requests_total")
            print(f"  over all labels {labels:.0f}, in the log {sum(requests.values())}")
            until("the ledger has them", lambda: world.metric("tidegate_usage_pending") == 0)
            total = world.json("/api/v1/usage?from=-1d&by=upstream")["total"]["requests"]
            lost = [world.metric(f"tidegate_usage_{what}_total") for what in ("folded", "dropped")]
            print(f"  in the ledger {total}; folded, dropped: {lost}")
        if options.only != "memory":
            rates, costs = ([], []), ([], [])
            for _ in range(options.rounds):
                for many in (0, 1):
                    rate, cost = round_of(world, tidegate, options, one=not many)
                    rates[many].append(rate)
                    costs[many].append(cost)
            (one, many), (cheap, dear) = map(statistics.median, rates), map(statistics.median, costs)
            print(f"requests a second: one client {one:.0f}, many {many:.0f}: {many / one - 1:+.1%}")
            print(f"processor time a request: one client {cheap:.2f} µs, many {dear:.2f} µs")


if __name__ == "__main__":
    main()
