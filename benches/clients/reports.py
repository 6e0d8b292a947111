#!/usr/bin/env python3
"""How long a report over thirty days of ten thousand clients takes, by every grouping and in every form.

    reports.py --ledger full.db                 # a ledger that usage_ledger.py filled; without, one is made (minutes)
    reports.py --ledger full.db --store postgres
"""

import argparse
import itertools
import pathlib
import shutil
import sqlite3
import subprocess
import time

from world import BINARY, World, memory, stop

FORMS = ("table", "csv", "json", "html", "parquet")
FILL = pathlib.Path(__file__).resolve().parents[1] / "usage_ledger.py"


def copy(ledger, url):
    """All rows of the SQLite `ledger` into the PostgreSQL at `url`, which has the tables."""
    tables = [f"usage_{slot}{kind}" for slot in ("day", "hour", "minute") for kind in ("", "_total")]
    source = sqlite3.connect(ledger)
    for table in tables:
        rows = source.execute(f"SELECT * FROM {table}")
        columns = ", ".join(column for column, *_ in rows.description)
        command = ["psql", "-q", url, "-c", f"COPY {table} ({columns}) FROM STDIN"]
        psql = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        for row in rows:
            fields = ("\\\\x" + field.hex() if isinstance(field, bytes) else str(field) for field in row)
            psql.stdin.write("\t".join(fields) + "\n")
        psql.stdin.close()
        if psql.wait() != 0:
            raise SystemExit(f"{table} was not copied")
    subprocess.run(["psql", "-q", url, "-c", "VACUUM ANALYZE"], check=True)


def timed(world, by, form, limit):
    command = [BINARY, "usage", "--admin", f"http://127.0.0.1:{world.admin}", "--from=-30d", f"--by={by}"]
    began = time.monotonic()
    subprocess.run([*command, "-o", form, f"--limit={limit}"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger")
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--limits", type=int, nargs="+", default=[100, 10_000])
    options = parser.parse_args()
    with World() as world:
        file = world.path / "usage.db"
        if options.ledger:
            shutil.copy(options.ledger, file)
        else:
            stop(world.tidegate(f"sqlite:{file}"))
            subprocess.run(["python3", FILL, file], check=True)
        store = f"sqlite:{file}"
        if options.store == "postgres":
            store = world.postgres()
            stop(world.tidegate(store))
            copy(file, store)
            file.unlink()
        tidegate = world.tidegate(store)
        print("| rows | by | " + " | ".join(FORMS) + " |")
        print("| ---: | --- | " + " | ".join("---:" for _ in FORMS) + " |")
        worst = 0.0
        keys = ("client", "route", "upstream", "hour")
        for limit in options.limits:
            for number in range(1, len(keys) + 1):
                for by in itertools.combinations(keys, number):
                    took = [timed(world, ",".join(by), form, limit) for form in FORMS]
                    worst = max(worst, *took)
                    cells = " | ".join(f"{one:.2f}" for one in took)
                    print(f"| {limit} | {','.join(by)} | {cells} |", flush=True)
        print(f"the slowest took {worst:.2f} s; the proxy grew to {memory(tidegate, 'VmHWM'):.0f} MiB")


if __name__ == "__main__":
    main()
