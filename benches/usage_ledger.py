#!/usr/bin/env python3
"""Fills a usage ledger in SQLite, as `tidegate run` made it, with days of many clients who all ask in every hour.

    usage_ledger.py tidegate.db --clients 10000 --days 30

What it writes is the same for the same arguments and day: a daily curve with weekends, a few clients that take most, one
that runs its reports in the peak, one at night. Of minutes, those of the last two hours are written only.
"""

import argparse
import math
import random
import sqlite3
import time

COUNTS = (
    "upstream_micros requests refused errors attempts retries bytes_in bytes_out status_1xx status_2xx status_3xx "
    "status_4xx status_5xx cache_hits cache_bytes saved_micros traced traces"
).split()


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def latency(requests, slow):
    """Cells around 8 ms, a tenth of the requests `slow` cells above, as the ledger stores them."""
    tail = requests // 10
    cells = [(113, requests - tail - requests // 3), (118, requests // 3), (118 + slow, tail)]
    out, last = b"", 0
    for cell, count in cells:
        if count > 0:
            out += varint(cell - last) + varint(count)
            last = cell
    return out


def sums(rng, requests, slow):
    failed, missing = requests // 200, requests // 50
    hits = requests // 4
    cost = int((requests - hits) * rng.uniform(8_000, 12_000) * (1 + slow / 20))
    counts = {
        "upstream_micros": cost,
        "requests": requests,
        "refused": requests // 300,
        "errors": failed,
        "attempts": requests - hits,
        "retries": failed // 2,
        "bytes_in": requests * 180,
        "bytes_out": requests * 5_300,
        "status_2xx": requests - failed - missing,
        "status_4xx": missing,
        "status_5xx": failed,
        "cache_hits": hits,
        "cache_bytes": hits * 5_300,
        "saved_micros": hits * 10_000,
        "traced": requests // 2,
        "traces": requests // 6,
    }
    return [counts.get(name, 0) for name in COUNTS], latency(requests, slow)


def weight(client, hour, rank):
    """How busy `client` is in the `hour` since the epoch, around 1."""
    of_day, of_week = hour % 24, (hour + 72) // 24 % 7
    day = 0.35 + 0.65 * math.exp(-((of_day - 13) ** 2) / 18)
    curve = day * (0.45 if of_week >= 5 else 1.0)
    if rank == 1:
        return 3.0 if of_day in (12, 13, 14) and of_week < 5 else 0.05
    if rank == 2:
        return 2.5 if of_day in (1, 2, 3) else 0.1
    return curve


def insert(ledger, table, rows, client=True):
    keys = ["at", "client", "route", "upstream"] if client else ["at", "route", "upstream"]
    columns = keys + COUNTS + ["latency"]
    marks = ", ".join("?" * len(columns))
    ledger.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    rng = random.Random(1)
    named = ["checkout-web", "reports", "warehouse-sync", "mobile-app", "partner-acme", "search-indexer", "billing"]
    names = [named[rank] if rank < len(named) else f"client-{rank:05}" for rank in range(options.clients)]
    order = sorted(range(options.clients), key=lambda rank: names[rank])
    routes = [("orders", "orders"), ("search", "search"), ("items", "orders")]
    ledger = sqlite3.connect(options.file)
    ledger.execute("PRAGMA synchronous = OFF")
    end = int(time.time()) // 3_600
    days = {}
    for hour in range(end - options.days * 24, end):
        rows, totals = [], {}
        for rank in order:
            busy = weight(names[rank], hour, rank) * rng.uniform(0.8, 1.2)
            requests = max(1, int(60_000 / (rank + 3) * busy))
            route, upstream = routes[rank % 3]
            counts, cells = sums(rng, requests, 12 if rank == 1 else 3)
            rows.append([hour * 3_600, names[rank], route, upstream, *counts, cells])
            total = totals.setdefault((route, upstream), [0] * len(COUNTS))
            day = days.setdefault((hour // 24 * 86_400, names[rank], route, upstream), [0] * len(COUNTS))
            for index, count in enumerate(counts):
                total[index] += count
                day[index] += count
        insert(ledger, "usage_hour", rows)
        of_all = [[hour * 3_600, *key, *total, latency(total[1], 4)] for key, total in sorted(totals.items())]
        insert(ledger, "usage_hour_total", of_all, client=False)
        if hour >= end - 2:
            for minute in range(60):
                at = hour * 3_600 + minute * 60
                insert(ledger, "usage_minute", [[at, *row[1:]] for row in rows])
                insert(ledger, "usage_minute_total", [[at, *row[1:]] for row in of_all], client=False)
        ledger.commit()
    totals = {}
    for (at, _, route, upstream), counts in days.items():
        total = totals.setdefault((at, route, upstream), [0] * len(COUNTS))
        for index, count in enumerate(counts):
            total[index] += count
    insert(ledger, "usage_day", ([*key, *counts, latency(counts[1], 4)] for key, counts in sorted(days.items())))
    of_all = ([*key, *counts, latency(counts[1], 4)] for key, counts in sorted(totals.items()))
    insert(ledger, "usage_day_total", of_all, client=False)
    ledger.commit()


if __name__ == "__main__":
    main()
