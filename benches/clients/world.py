"""What the measurements of clients run against: nginx as origin, Tidegate's release binary, wrk, and PostgreSQL if asked.

Everything is in a directory of its own and gone with the process; every server listens on a free port of loopback.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

BINARY = os.environ.get("TIDEGATE") or pathlib.Path(__file__).resolve().parents[2] / "target/release/tidegate"
ROOT = os.geteuid() == 0


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(what, holds, seconds=60.0):
    """Waits until `holds` answers something true, and returns that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := holds():
                return answer
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"not within {seconds} s: {what}")


class World:
    """The servers; a context manager."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="tidegate-clients-")
        self.path = pathlib.Path(self.directory.name)
        self.path.chmod(0o777)
        self.running = []
        self.public, self.admin, self.origin = port(), port(), port()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.directory.cleanup()

    def start(self, *arguments, **options):
        process = subprocess.Popen([str(one) for one in arguments], **options)
        self.running.append(process)
        return process

    def nginx(self, body="x" * 100):
        """An origin that says `body` to everybody."""
        conf = self.path / "nginx.conf"
        user = "user root;" if ROOT else ""
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{place}_temp_path {self.path}/{place};" for place in places)
        conf.write_text(
            f"{user} daemon off; worker_processes 1; pid {self.path}/nginx.pid; error_log stderr crit;"
            f"events {{ worker_connections 4096; }} http {{ {places} keepalive_requests 1000000000; access_log off;"
            f'server {{ listen 127.0.0.1:{self.origin}; location / {{ return 200 "{body}"; }} }} }}'
        )
        nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        self.start(nginx, "-e", "stderr", "-p", self.path, "-c", conf)
        until("nginx answers", lambda: socket.create_connection(("127.0.0.1", self.origin)).close() is None)

    def postgres(self, name="ledger"):
        """A PostgreSQL server, and the URL of a database in it."""
        programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if ROOT else []
        data, quiet = self.path / "postgres", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        initdb = [programs / "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "tidegate", "-D", data]
        subprocess.run([*as_nobody, *initdb], check=True, cwd=self.path, **quiet)
        server = [programs / "postgres", "-D", data, "-k", self.path, "-c", "listen_addresses="]
        self.start(*as_nobody, *server, cwd=self.path, **quiet)
        psql = ["psql", "-qAt", "-h", self.path, "-U", "tidegate", "-d", "postgres", "-c"]
        create = [*psql, f"CREATE DATABASE {name}"]
        until("PostgreSQL answers", lambda: subprocess.run(create, **quiet).returncode == 0)
        return f"postgres://tidegate@{str(self.path).replace('/', '%2F')}/{name}"

    def tidegate(self, store, log="/dev/null", more=""):
        """Starts Tidegate on the same ports as before, its access log appended to `log`."""
        conf = self.path / "tidegate.toml"
        conf.write_text(
            f'version = 1\n[[listen]]\nname = "public"\naddress = "127.0.0.1:{self.public}"\n'
            f'[admin]\naddress = "127.0.0.1:{self.admin}"\n[clients]\nhash_key = "of-this-measurement"\n'
            f'[upstreams.app]\nendpoints = ["127.0.0.1:{self.origin}"]\n[usage]\nstore = "{store}"\n'
            f'[telemetry]\naccess_log = {{ format = "json", path = "{log}" }}\n{more}'
        )
        said = self.path / "tidegate.err"
        process = self.start(BINARY, "run", conf, stdout=subprocess.DEVNULL, stderr=said.open("a"))
        until("Tidegate is ready", lambda: process.poll() is not None or self.get("/readyz") is not None)
        if process.poll() is not None:
            raise SystemExit(said.read_text())
        return process

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=120) as answer:
            return answer.read().decode()

    def json(self, path):
        return json.loads(self.get(path))

    def metric(self, name):
        """The sum of the samples of this name."""
        lines = (line for line in self.get("/metrics").splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(line.rsplit("}", 1)[-1].split()[0] if "}" in line else line.split()[1]) for line in lines)

    def wrk(self, script, seconds, connections=32, **environment):
        """Starts wrk with a Lua `script`, which reads `environment`."""
        lua = self.path / "load.lua"
        lua.write_text(script)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", lua, f"http://127.0.0.1:{self.public}/"]
        environment = {key: str(value) for key, value in environment.items()}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return self.start(*command, env={**os.environ, **environment}, **output)


def memory(process, field="VmRSS"):
    """Resident memory in MiB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field + ":")) / 1024


def cpu(process):
    """Seconds of processor time so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(process, by=signal.SIGTERM):
    process.send_signal(by)
    process.wait(60)
