// What is committed is what the sources build.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "node:test";
import { promisify } from "node:util";

const here = fileURLToPath(new URL("..", import.meta.url));

test("the committed page is what the sources build", async () => {
  const fresh = await mkdtemp(join(tmpdir(), "tidegate-dist-"));
  try {
    await promisify(execFile)("npm", ["run", "build", "--", "--outDir", fresh, "--emptyOutDir"], { cwd: here });
    const names = (await readdir(fresh)).sort();
    assert.deepEqual((await readdir(join(here, "dist"))).sort(), names);
    for (const name of names) {
      const [committed, built] = await Promise.all([readFile(join(here, "dist", name)), readFile(join(fresh, name))]);
      assert.ok(committed.equals(built), `${name} differs: make dashboard builds it anew`);
    }
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
});
