#!/usr/bin/env python3
"""What observation costs, and whether its counts agree.

    observe.py                       # everything, about half an hour
    observe.py --only cost           # processor time of a request with everything on, against everything off
    observe.py --only scrape         # the 99th percentile with a scrape of 100,000 series a round, against none
    observe.py --only agree          # a million requests: metrics, access log, ledger and traces, and their phases
    observe.py --only away           # collector, Splunk and disk away under load

The first two want the machine to themselves. Wants nginx, wrk and h2load.
"""

import argparse
import gzip
import http.server
import json
import socket
import statistics
import subprocess
import sys
import threading
import time

from world import World, cpu, memory, port, stop, until

PHASES = [f"{phase}_ms" for phase in ("receive", "decide", "queue", "connect", "wait", "body", "deliver")]
COUNT = "http_server_request_duration_seconds_count"


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes in whatever is exported, and counts the server spans of Zipkin's JSON."""

    protocol_version = "HTTP/1.1"
    servers = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        Sink.servers += body.count(b'"kind":"SERVER"')
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def sink():
    """Starts a sink; its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def steady(world, seconds, rate):
    """Load of a fixed rate; the times of its answers in ms, in order."""
    return [took for _, took in timed(world, seconds, rate)]


def timed(world, seconds, rate, connections=16):
    """The same, each with the time it was asked at, in µs since the epoch."""
    log = world.path / "h2load.tsv"
    log.unlink(missing_ok=True)
    command = ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds}", f"--rps={rate // connections}"]
    url = f"http://127.0.0.1:{world.public}/"
    subprocess.run([*command, f"--log-file={log}", url], check=True, stdout=subprocess.DEVNULL)
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    bad = [row for row in rows if row[1] != "200"]
    if bad:
        raise SystemExit(f"{len(bad)} of {len(rows)} answers are not 200, the first {bad[0]}")
    return [(int(row[0]), int(row[2]) / 1000) for row in rows]


def quantile(times, q):
    return sorted(times)[min(int(len(times) * q), len(times) - 1)]


def cost(world, options):
    """Both stand side by side and take turns of some seconds: a machine's speed drifts by more than is to be seen."""
    with World() as other:
        collector = sink()
        traces = f'otlp = {{ endpoint = "http://127.0.0.1:{collector}", sample = 0.01 }}\n'
        settings = {
            "on": (world, f"sqlite:{world.path}/usage.db", world.path / "access.log", traces),
            "off": (other, "memory", "off", ""),
        }
        running = {}
        for kind, (where, store, log, more) in settings.items():
            where.nginx("x" * 1024)
            running[kind] = where, where.tidegate(store, log, more)
            where.wrk("", 3, 64).wait()
        spent = {kind: [] for kind in running}
        for turn in range(options.rounds):
            for kind in sorted(running, reverse=turn % 2 == 1):
                where, tidegate = running[kind]
                requests, busy = where.metric(COUNT), cpu(tidegate)
                where.wrk("", options.seconds, 64).wait()
                # What a turn left to do is its own, too: less than 100 ms of the observer's and the writer's work.
                time.sleep(0.2)
                spent[kind].append((cpu(tidegate) - busy, where.metric(COUNT) - requests))
    each = {kind: [busy / requests * 1e6 for busy, requests in turns] for kind, turns in spent.items()}
    ratios = [on / off for on, off in zip(each["on"], each["off"])]
    whole = {kind: sum(busy for busy, _ in turns) / sum(n for _, n in turns) * 1e6 for kind, turns in spent.items()}
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    print(f"processor time a request over {options.rounds} turns: all on {whole['on']:.2f} µs, all off {whole['off']:.2f} µs, "
          f"ratio {whole['on'] / whole['off']:.3f}")
    print(f"  on ÷ off by turn: {', '.join(f'{r:.3f}' for r in sorted(ratios))}; "
          f"median {statistics.median(ratios):.3f}, standard error of the mean {error:.3f}")


def scrape(world, options):
    world.nginx()
    count, methods = 200, ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")
    upstreams = "".join(f'[upstreams.u{n}]\nendpoints = ["127.0.0.1:{world.origin}"]\n' for n in range(count))
    routes = "".join(
        f'[[routes]]\nname = "r{n}"\nmatch = {{ path_prefix = "/r{n}" }}\nupstream = "u{n}"\n' for n in range(count)
    )
    tidegate = world.tidegate("memory", "off", upstreams + routes + '[[routes]]\nname = "all"\nupstream = "app"\n')
    with socket.create_connection(("127.0.0.1", world.public)) as one:
        answers = one.makefile("rb")
        for n in range(count):
            for method in methods:
                one.sendall(f"{method} /r{n} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".encode())
                length = 0
                while (line := answers.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                answers.read(length)
    time.sleep(1)
    text = world.get("/metrics")
    series = sum(not line.startswith("#") for line in text.splitlines())
    print(f"a scrape: {series} series, {len(text) / 1e6:.1f} MB", end="")
    url, busy = f"http://127.0.0.1:{world.admin}/metrics", cpu(tidegate)
    began = time.monotonic()
    for _ in range(10):
        subprocess.run(["curl", "-fsS", "-o", "/dev/null", url], check=True)
    print(f", {(time.monotonic() - began) * 100:.0f} ms, {(cpu(tidegate) - busy) * 100:.0f} ms of processor time")
    steady(world, 3, options.rate)
    # What asks is elsewhere in life, and takes no processor from the proxy. What else happens on this machine in ten
    # seconds moves their tail by more than a scrape: so each ten seconds are held against themselves without the scrape.
    rounds = []
    for _ in range(options.rounds):
        asked = []

        def ask():
            asked.append(time.time())
            subprocess.run(["nice", "-n19", "curl", "-fsS", "-o", "/dev/null", url])
            asked.append(time.time() + 0.02)

        middle = threading.Timer(5, ask)
        middle.start()
        rows = timed(world, 10, options.rate)
        middle.join()
        from_then, until_then = (at * 1e6 for at in asked)
        rounds.append((
            [took for _, took in rows],
            [took for at, took in rows if at + took * 1000 < from_then or at > until_then],
        ))
    tails = [[quantile(times, 0.99) for times in both] for both in rounds]
    ratios = sorted(scraped / bare for scraped, bare in tails)
    pooled = [quantile([time for times in all for time in times], 0.99) for all in zip(*rounds)]
    beside = statistics.median(len(all) - len(bare) for all, bare in rounds)
    print(f"  p99 of ten seconds at {options.rate}/s, with one scrape and without the {beside:.0f} requests beside it: ratios "
          f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}; median {statistics.median(ratios):.3f}")
    print(f"  of all rounds together: {pooled[0]:.3f} ms, {pooled[1]:.3f} ms; ratio {pooled[0] / pooled[1]:.3f}")


def agree(world, options):
    world.nginx()
    more = f'zipkin = {{ endpoint = "http://127.0.0.1:{sink()}/api/v2/spans", sample = 1.0 }}\n'
    log = world.path / "access.log"
    tidegate = world.tidegate(f"sqlite:{world.path}/usage.db", log, more)
    total = options.requests
    command = ["h2load", "--h1", "-t1", "-c16", f"-n{total}", f"--rps={options.rate // 16}"]
    subprocess.run([*command, f"http://127.0.0.1:{world.public}/"], check=True, stdout=subprocess.DEVNULL)
    until("all are folded", lambda: world.metric(COUNT) >= total)
    metrics, clients = world.metric(COUNT), world.metric("tidegate_client_requests_total")
    phases = world.metric("tidegate_phase_duration_seconds_count") / len(PHASES)
    dropped = world.metric("tidegate_exported_total") - world.metric('tidegate_exported_total{exporter="zipkin",result="sent"}')
    # Not by when it was written last: that may have been as the last request ended.
    def in_ledger():
        return world.json("/api/v1/usage?from=-1d&by=upstream")["total"]["requests"]

    until("the ledger has them", lambda: in_ledger() >= total)
    ledger = in_ledger()
    stop(tidegate)
    lines, worst = 0, 0.0
    with open(log) as file:
        for line in map(json.loads, file):
            lines += 1
            worst = max(worst, abs(sum(line[phase] for phase in PHASES) - line["total_ms"]))
    print(f"{total} requests sent: metrics {metrics:.0f}, by client {clients:.0f}, in each phase {phases:.0f}, "
          f"access log {lines}, ledger {ledger}, server spans {Sink.servers}; exports not sent {dropped:.0f}")
    print(f"  the phases of one differ from its total by {worst:.4f} ms at most")


def away(world, options):
    world.nginx()
    silent = socket.create_server(("127.0.0.1", 0), backlog=0)
    token = world.path / "token"
    token.write_text("of-this-measurement")
    more = (
        f'otlp = {{ endpoint = "http://127.0.0.1:{silent.getsockname()[1]}", sample = 1.0 }}\n'
        f'splunk = {{ url = "http://127.0.0.1:{port()}", token = {{ file = "{token}" }} }}\n'
    )
    tails = {}
    for kind, log, settings in (("there", world.path / "access.log", ""), ("away", "/dev/full", more)):
        tidegate = world.tidegate("memory", log, settings)
        steady(world, 5, options.rate)
        before = memory(tidegate)
        # Three minutes tell what it is like when everything is there.
        times, most, left = [], 0.0, options.away if kind == "away" else min(options.away, 180)
        while left > 0:
            times += steady(world, min(left, 30), options.rate)
            most, left = max(most, memory(tidegate)), left - 30
        tails[kind] = [quantile(times, q) for q in (0.5, 0.99, 0.999)]
        told = [f"{q} {tail:.3f} ms" for q, tail in zip(("p50", "p99", "p99.9"), tails[kind])]
        print(f"{kind}: {len(times)} requests, {', '.join(told)}; memory {before:.1f} MiB, then {most:.1f} at most")
        if kind == "away":
            names = ("tidegate_exported_total", "tidegate_access_log_lines_dropped_total", "tidegate_traces_dropped_total")
            for line in world.get("/metrics").splitlines():
                if line.startswith(names):
                    print("  " + line)
        stop(tidegate)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"cost": cost, "scrape": scrape, "agree": agree, "away": away}
    parser.add_argument("--only", choices=list(parts))
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=3, help="of each turn of `cost`")
    parser.add_argument("--rate", type=int, default=4_000, help="requests a second, where it is fixed")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of `agree`")
    parser.add_argument("--away", type=int, default=600, help="seconds of `away`")
    options = parser.parse_args()
    for name, part in parts.items():
        if options.only in (None, name):
            with World() as world:
                part(world, options)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
