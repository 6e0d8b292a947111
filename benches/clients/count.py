#!/usr/bin/env python3
"""The usage report against an independent count over the access log, to the request and the byte.

    count.py                                    # 1,000,000 requests of 10,000 clients, ledger in SQLite
    count.py --store postgres --requests 100000

wrk sends bodies of many sizes under a key drawn at random, all the time. A third in, Tidegate is told to end and started
again; after two thirds it is killed with SIGKILL and started again. Each time the ledger is held against the log's lines:
after the orderly end all of them; after the kill the first so many, none of which lacks but of the last ten seconds before it.
"""

import argparse
import collections
import datetime
import json
import signal
import subprocess
import time

from world import World, stop, until

LOAD = """
local clients = tonumber(os.getenv("CLIENTS"))
math.randomseed(os.time())
request = function()
  local headers = {}
  headers["x-api-key"] = "client-" .. math.random(clients)
  return wrk.format("POST", "/" .. math.random(9), headers, string.rep("y", math.random(0, 200)))
end
"""

SUMS = ("requests", "bytes_in", "bytes_out")


def counted(lines):
    """By client: requests, bytes in, bytes out."""
    count = collections.defaultdict(lambda: [0, 0, 0])
    for line in lines:
        sums = count[line["client"]]
        sums[0] += 1
        sums[1] += line["bytes_in"]
        sums[2] += line["bytes_out"]
    return {client: tuple(sums) for client, sums in count.items()}


def added(one, other):
    both = dict(one)
    for client, sums in other.items():
        both[client] = tuple(map(sum, zip(both.get(client, (0, 0, 0)), sums)))
    return both


def ended(line):
    """When a line's exchange ended, in seconds since the Unix epoch."""
    began = datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")).timestamp()
    return began + line["total_ms"] / 1000


class Run:
    def __init__(self, world, options):
        self.world, self.options = world, options
        self.logs = 0
        sqlite = f"sqlite:{world.path}/usage.db"
        self.store = world.postgres() if options.store == "postgres" else sqlite
        self.ledger = {}
        self.seen = 0

    def begin(self):
        self.logs += 1
        self.log = self.world.path / f"access-{self.logs}.log"
        return self.world.tidegate(self.store, self.log)

    def load(self, requests):
        """Lets wrk go on until the log has so many lines."""
        wrk = self.world.wrk(LOAD, 3_600, CLIENTS=self.options.clients)

        def enough():
            with open(self.log, "rb") as log:
                return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b"")) >= requests

        began = time.monotonic()
        while not enough():
            time.sleep(0.5)
        self.seen += 1
        print(f"  part {self.seen}: {requests} requests in {time.monotonic() - began:.0f} s", flush=True)
        return wrk

    def lines(self):
        with open(self.log) as log:
            text = log.read()
        # A killed process leaves its last line as it is.
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    def reported(self):
        answer = self.world.json("/api/v1/usage?from=-1d&limit=200000")
        rows = {row["client"]: tuple(row[key] for key in SUMS) for row in answer["rows"]}
        total = tuple(answer["total"][key] for key in SUMS)
        if rows and total != tuple(map(sum, zip(*rows.values()))):
            raise SystemExit(f"the rows do not add up to the total: {total}")
        return rows

    def agrees(self, what, expected):
        began = time.monotonic()
        until(what, lambda: self.reported() == expected)
        total = list(map(sum, zip(*expected.values())))
        print(f"{what}: {total[0]} requests, {total[1]} bytes in, {total[2]} out, {len(expected)} clients agree "
              f"({time.monotonic() - began:.1f} s)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=10_000)
    options = parser.parse_args()
    part = options.requests // 3 + 1
    with World() as world:
        world.nginx()
        run = Run(world, options)

        # Ended in order, under load: everything is in the ledger.
        tidegate = run.begin()
        wrk = run.load(part)
        stop(tidegate)
        stop(wrk)
        first = run.lines()
        tidegate = run.begin()
        expected = counted(first)
        run.agrees("after a restart", expected)

        # Killed, under load: a beginning of the log is.
        wrk = run.load(part)
        killed = time.time()
        stop(tidegate, signal.SIGKILL)
        stop(wrk)
        lines = run.lines()
        tidegate = run.begin()
        kept = run.reported()
        number = sum(sums[0] for sums in kept.values()) - len(first)
        if not 0 <= number <= len(lines):
            raise SystemExit(f"the log has {len(lines)} lines and the ledger {number}")
        expected = added(expected, counted(lines[:number]))
        run.agrees("after kill -9", expected)
        oldest = min((ended(line) for line in lines[number:]), default=killed)
        print(f"lost: the last {len(lines) - number} requests, {killed - oldest:.1f} s before the kill", flush=True)
        if killed - oldest > 10:
            raise SystemExit("that is more than ten seconds")

        # And on.
        wrk = run.load(part)
        stop(wrk)
        requests = lambda: world.metric("http_server_request_duration_seconds_count")
        until("all lines are written", lambda: requests() == len(run.lines()))
        third = run.lines()
        run.agrees("at the end", added(expected, counted(third)))
        dropped = [world.metric(name) for name in ("tidegate_usage_dropped_total", "tidegate_usage_folded_total")]
        print(f"{len(first) + len(lines) + len(third)} requests in all; dropped, folded: {dropped}")


if __name__ == "__main__":
    main()
