// The built binary on free ports, and an origin that does as it is told.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, createServer, request } from "node:http";
import { createServer as listen } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BINARY = process.env.TIDEGATE ?? fileURLToPath(new URL("../../target/debug/tidegate", import.meta.url));

/** A condition that comes true, sooner or later. */
export async function eventually(what, holds, patience = 30_000) {
  const end = Date.now() + patience;
  let last;
  while (Date.now() < end) {
    try {
      const value = await holds();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    await new Promise((again) => setTimeout(again, 25));
  }
  throw new Error(`not in ${patience} ms: ${what}${last ? ` (${last.message})` : ""}`);
}

export async function freePort() {
  const server = listen().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Answers at once: badly where the path has `fail` in it; but for what waits at its gate, every path with `hold` in it. */
export async function origin() {
  const held = new Set();
  const server = createServer((incoming, answer) => {
    incoming.resume();
    answer.setHeader("server-timing", "db;dur=12");
    if (incoming.url.includes("news")) answer.setHeader("cache-control", "max-age=600");
    if (incoming.url.includes("fail")) answer.statusCode = 500;
    if (incoming.url.includes("hold")) {
      held.add(answer);
      answer.on("close", () => held.delete(answer));
    } else answer.end("hello");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${server.address().port}`,
    held,
    release: () => held.forEach((answer) => answer.end("late")),
    close: () => (server.closeAllConnections(), server.close()),
  };
}

/** A node exporter of two processors: of each ten seconds between two answers, four are idle and two wait for a disk. */
export async function nodeExporter() {
  let asked = 0;
  const server = createServer((incoming, answer) => {
    incoming.resume();
    const at = asked++;
    answer.end(
      `node_cpu_seconds_total{cpu="0",mode="idle"} ${100 + 4 * at}\nnode_cpu_seconds_total{cpu="0",mode="iowait"} ${2 * at}\n` +
        `node_cpu_seconds_total{cpu="1",mode="user"} ${4 * at}\nnode_load1 0.5\n` +
        `node_memory_MemTotal_bytes 4096\nnode_memory_MemAvailable_bytes 1024\n`,
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}/metrics`, close: () => (server.closeAllConnections(), server.close()) };
}

export const key = (name) => `sha256:${createHash("sha256").update(name).digest("hex")}`;

/** A running proxy with this configuration; `listen` and `admin` are added to it. */
export async function proxy(config, { token } = {}) {
  const directory = await mkdtemp(join(tmpdir(), "tidegate-page-"));
  const [port, admin] = [await freePort(), await freePort()];
  const file = join(directory, "tidegate.toml");
  if (token) await writeFile(join(directory, "token"), token);
  const head = `version = 1\n[server]\nstate_dir = "${directory}/state"\n[[listen]]\naddress = "127.0.0.1:${port}"\n[admin]\naddress = "127.0.0.1:${admin}"\n`;
  await writeFile(file, `${head}${token ? `token = { file = "${directory}/token" }\n` : ""}${config}`);
  const agent = new Agent({ keepAlive: true });
  let child;
  const running = {
    page: `http://127.0.0.1:${admin}`,
    async start() {
      child = spawn(BINARY, ["run", file], { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, TIDEGATE_TOKEN: "" } });
      let said = "";
      child.stderr.on("data", (text) => (said += text));
      await eventually("the proxy is ready", async () => {
        return child.exitCode !== null || (await fetch(`${running.page}/readyz`)).ok;
      });
      if (child.exitCode !== null) throw new Error(`the proxy did not start: ${said}`);
    },
    async stop(signal = "SIGTERM") {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    },
    /** A request through the proxy: its status, its id. */
    ask(path, client) {
      return new Promise((done, failed) => {
        const headers = client ? { "x-api-key": client } : {};
        const asked = request({ host: "127.0.0.1", port, path, headers, agent }, (answer) => {
          answer.resume();
          answer.on("end", () => done({ status: answer.statusCode, id: answer.headers["x-request-id"] }));
          answer.on("error", failed);
        });
        asked.on("error", failed);
        asked.end();
      });
    },
    async api(path, headers = {}) {
      const answer = await fetch(`${running.page}/api/v1/${path}`, { headers });
      return answer.json();
    },
    async post(path, body) {
      const headers = { "content-type": "application/json" };
      const answer = await fetch(`${running.page}/api/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
      if (!answer.ok) throw new Error(await answer.text());
    },
    async close() {
      await running.stop("SIGKILL");
      agent.destroy();
      await rm(directory, { recursive: true, force: true });
    },
  };
  await running.start();
  return running;
}
