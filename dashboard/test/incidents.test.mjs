// What is kept of an incident, on the page: where the processor's time went, and the bundle to take away.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { browser, unobstructed, visit } from "./browser.mjs";
import { origin, proxy } from "./proxy.mjs";

let chromium, service;

before(async () => {
  service = await origin();
  chromium = await browser();
});

after(async () => {
  await chromium?.close();
  service?.close();
});

/** A proxy that promises more than its upstream keeps, of whose requests all fail while `use` runs. */
async function failing(use) {
  const off = `{ mode = "off" }`;
  const gate = await proxy(`
[upstreams.shop]
endpoints = ["${service.address}"]
breaker = ${off}
retry = ${off}
outlier = ${off}
[slos.answered]
min_requests = 20
availability = 0.999
[[routes]]
name = "shop"
upstream = "shop"
slo = "answered"
`);
  let over = false;
  const fail = async () => {
    while (!over) await Promise.all(Array.from({ length: 8 }, () => gate.ask("/fail")));
  };
  let failed;
  try {
    await use(gate, () => (failed = fail()));
  } finally {
    over = true;
    await failed;
    await gate.close();
  }
}

test("an incident shows where the processor's time went, and gives its bundle", async () => {
  await failing(async (gate, fail) => {
    await visit(chromium, gate.page, "incidents", async (page) => {
      await page.getByText("None.").waitFor();
      fail();
      await page.getByText("It is being sampled").waitFor();
      const picture = page.getByRole("tree", { name: "Where the processor's time went" });
      await picture.waitFor({ timeout: 120_000 });

      const all = picture.getByRole("treeitem", { name: /^all: \d+ samples, 100%$/ });
      await all.focus();
      await page.keyboard.press("ArrowDown");
      const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
      const thread = await focused();
      assert.match(thread, /: \d+ samples, [\d.]+%$/);
      assert.doesNotMatch(thread, /^all:/);
      await page.keyboard.press("Enter");
      const chosen = picture.getByRole("treeitem", { selected: true });
      assert.equal(await chosen.getAttribute("aria-label"), thread);
      const [whole, part] = await Promise.all([picture.boundingBox(), chosen.boundingBox()]);
      assert.ok(Math.abs(whole.width - part.width) < 1, "it is as wide as the picture");
      await page.getByRole("button", { name: "Show all" }).click();
      assert.match(await chosen.getAttribute("aria-label"), /^all:/);
      await page.getByRole("columnheader", { name: "Ran longest itself" }).waitFor();
      await unobstructed(page, "a flamegraph");

      const [incident] = (await gate.api("incidents")).incidents;
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByText("Download the bundle").click()]);
      assert.equal(download.suggestedFilename(), `tidegate-incident-${incident.id}.tar.zst`);
      const bundle = await readFile(await download.path());
      assert.equal(bundle.length, incident.bundle);
      assert.equal(bundle.subarray(0, 4).toString("hex"), "28b52ffd", "it begins as Zstandard does");
    });
  });
});

test("an incident without a profile says why there is none", async () => {
  await failing(async (gate, fail) => {
    // While one is taken, no other can be: of two, one is refused.
    const over = new AbortController();
    const profile = () => fetch(`${gate.page}/debug/pprof/profile?seconds=60`, { signal: over.signal });
    const asked = [profile(), profile()];
    try {
      assert.equal((await Promise.race(asked)).status, 409);
      fail();
      await visit(
        chromium,
        gate.page,
        "incidents",
        async (page) => {
          await page.getByText("The bundle has no profile: another was being taken").waitFor({ timeout: 120_000 });
          await page.getByText("Download the bundle").waitFor();
        },
        /404/,
      );
    } finally {
      over.abort();
      await Promise.allSettled(asked);
    }
  });
});
