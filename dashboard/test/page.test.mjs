// The page in a real Chromium, against the real proxy: what it shows is what happened, and what it does has its effect.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, row, unobstructed, visit } from "./browser.mjs";
import { eventually, key, nodeExporter, origin, proxy } from "./proxy.mjs";

const VIEWS = ["now", "upstream/shop", "clients", "traffic", "cache", "incidents", "why", "config"];

let chromium, service, gate, scenario;

const config = (at) => `
[[clients.identify]]
header = "x-api-key"
[[clients.known]]
name = "alice"
keys = ["${key("alice")}"]
owner = "the shop's team"
[[clients.known]]
name = "bob"
keys = ["${key("bob")}"]
[upstreams.shop]
endpoints = ["${at}"]
concurrency = { algorithm = "fixed", max = 24 }
[upstreams.search]
endpoints = ["${at}"]
[[routes]]
name = "shop"
match = { path_prefix = "/shop" }
upstream = "shop"
slo = "answered"
[[routes]]
name = "search"
match = { path_prefix = "/search" }
upstream = "search"
cache = "shared"
[slos.answered]
min_requests = 10
availability = 0.5
[cache.shared]
memory = "256MiB"
`;

/** Thirty of alice's, ten of bob's; of what can be cached one miss and nine hits; one without a route. */
before(async () => {
  service = await origin();
  gate = await proxy(config(service.address));
  for (let i = 0; i < 30; i++) assert.equal((await gate.ask(`/shop/${i}`, "alice")).status, 200);
  for (let i = 0; i < 10; i++) assert.equal((await gate.ask("/search/news", "bob")).status, 200);
  scenario = { lost: await gate.ask("/nowhere", "alice") };
  await eventually("everything is counted", async () => (await gate.api("status")).exchanges.total === 41);
  chromium = await browser();
});

after(async () => {
  await chromium?.close();
  await gate?.close();
  service?.close();
});

const at = (view, use, { from = gate, expected } = {}) => visit(chromium, from.page, view, use, expected);

test("now shows how full an upstream is", async () => {
  const held = Array.from({ length: 5 }, (_, i) => gate.ask(`/shop/hold/${i}`, "alice"));
  await eventually("five wait at the origin", () => service.held.size === 5);
  await at("now", async (page) => {
    await page.getByText("Everything answers as usual").waitFor();
    await eventually("five of twenty-four", async () => (await row(page, "shop"))[1] === "5 / 24");
    const [name, , , , , , breaker, headroom] = await row(page, "shop");
    assert.match(name, /shop 1 endpoint/);
    assert.equal(breaker, "closed");
    assert.match(headroom, /^\d+%$/);
    service.release();
    await Promise.all(held);
    await eventually("none any more", async () => (await row(page, "shop"))[1] === "0 / 24");
  });
});

test("an upstream shows its endpoints, its components and its past before one has watched", async () => {
  await at("upstream/shop", async (page) => {
    const [address, state] = await eventually("the endpoint", async () => {
      const cells = await row(page, service.address);
      return cells.length > 0 && cells;
    });
    assert.deepEqual([address, state], [service.address, "healthy"]);
    const { traffic, components } = await gate.api("upstreams/shop");
    const { requests } = traffic.total;
    assert.ok(requests >= 30 && components[0].count === requests);
    const told = await row(page, "db");
    assert.deepEqual([told[1], told[4]], ["12.0 ms", `${requests}×`]);
    await page.getByText(`${requests} requests, 0 errors`).waitFor();
    const past = (await gate.api("history?upstream=shop")).upstreams[0];
    assert.equal(
      past.requests.reduce((sum, second) => sum + second),
      requests,
    );
    for (const title of ["Load", "Requests a second", "Latency", "Phases, mean", "Latencies of the last"]) {
      await page.getByRole("figure", { name: title }).first().waitFor();
    }
  });
});

test("an endpoint shows how its host is doing", async () => {
  const exporter = await nodeExporter();
  const own = await proxy(`
[upstreams.shop]
endpoints = [{ address = "${service.address}", node = "${exporter.url}" }]
[[routes]]
name = "shop"
upstream = "shop"
`);
  try {
    await at(
      "upstream/shop",
      async (page) => {
        await page.getByRole("columnheader", { name: "Its host" }).waitFor();
        await page.getByRole("img", { name: "Processors 40%" }).waitFor();
        assert.equal((await row(page, service.address))[6], "40% disks 20%, memory 75%");
      },
      { from: own },
    );
  } finally {
    await own.close();
    exporter.close();
  }
});

test("clients shows who asked how often and what that cost", async () => {
  await at("clients", async (page) => {
    const alice = await eventually("alice", async () => {
      const cells = await row(page, "alice");
      return cells.length > 0 && cells;
    });
    const known = (await gate.api("clients")).clients.find((one) => one.client === "alice");
    assert.equal(alice[0], "alice the shop's team");
    assert.equal(Number(alice[5]), known.requests);
    assert.equal((await row(page, "bob"))[5], "10");
    await page.getByRole("searchbox").fill("bob");
    await eventually("only bob", async () => (await row(page, "alice")).length === 0);
    await page.getByRole("button", { name: "bob", exact: true }).click();
    assert.equal((await row(page, "search"))[4], "10");
  });
});

test("now shows how objectives stand", async () => {
  await at("now", async (page) => {
    const [objective, promised, , left, , , standing] = await eventually("the objective", async () => {
      await gate.ask("/shop/again", "alice");
      const cells = await row(page, "answered");
      return cells.length > 0 && cells;
    });
    assert.deepEqual([objective, promised, left], ["answered route shop", "50.00% answered", "100%"]);
    assert.equal(standing, "kept");
  });
});

test("traffic shows who talks to whom", async () => {
  await at("traffic", async (page) => {
    await eventually(
      "the ledger is written",
      async () => {
        await page.reload();
        await page.getByRole("rowheader", { name: "bob" }).waitFor({ timeout: 2_000 });
        return (await row(page, "bob"))[3] === "10";
      },
      60_000,
    );
    const [, route, upstream] = await row(page, "bob");
    assert.deepEqual([route, upstream], ["search", "search"]);
  });
});

test("cache shows what it saved, and forgets when told to", async () => {
  await at("cache", async (page) => {
    await page.getByText("90.0%").waitFor();
    assert.equal((await row(page, "search/news"))[1], "9");
    await page.getByRole("button", { name: "Purge…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("URLs that begin so").fill("http://127.0.0.1/search");
    await dialog.getByRole("checkbox").uncheck();
    const { url } = (await gate.api("cache")).caches[0].top_by_bytes[0];
    await dialog.getByLabel("URLs that begin so").fill(url.slice(0, -2));
    await dialog.getByLabel("Why").fill("a test");
    await dialog.getByRole("button", { name: "Drop" }).click();
    await dialog.getByText("1 URL was dropped.").waitFor();
    await eventually("it is gone", async () => (await gate.api("cache")).caches[0].urls === 0);
  });
});

test("why explains a request", async () => {
  await at("why", async (page) => {
    await page.getByLabel("Request id").fill(scenario.lost.id);
    await page.getByRole("button", { name: "Explain" }).click();
    await page.getByText("because of no route").waitFor();
    assert.match(await page.locator(".headline").innerText(), /GET refused, 404/);
  });
  await at(
    "why/0195f6a1-7c3e-7b11-a4d3-0242ac120002",
    async (page) => {
      await page.locator(".note.warn").waitFor();
    },
    { expected: /404/ },
  );
});

test("config shows the plan, and a reload is told in config and incidents", async () => {
  await at("config", async (page) => {
    await page.getByRole("searchbox").fill("24");
    await page.locator(".plan").getByText("24", { exact: true }).first().waitFor();
    await page.getByRole("button", { name: "Reload…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Why").fill("a test");
    await dialog.getByRole("button", { name: "Reload", exact: true }).click();
    await dialog.getByText("It was read and taken over").waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("taken over", { exact: true }).waitFor();
  });
  await at("incidents", async (page) => {
    await page.getByText("configuration", { exact: true }).first().waitFor();
  });
});

test("a client isolated from the page is refused, until it is released there", async () => {
  await at("clients", async (page) => {
    await page.getByRole("button", { name: "Isolate bob" }).click();
    const dialog = page.getByRole("dialog", { name: "Isolate bob" });
    await dialog.getByRole("button", { name: "Block" }).click();
    await dialog.getByText(/In the last whole minute|not known/).waitFor();
    const act = dialog.getByRole("button", { name: "Isolate bob" });
    await act.click();
    assert.equal((await gate.api("isolations")).isolations.length, 0, "not without a reason");
    await dialog.getByLabel("Why").fill("a test");
    await act.click();
    await dialog.getByText("bob is held apart").waitFor();
    assert.equal((await gate.ask("/search/bob", "bob")).status, 429);
    assert.equal((await gate.ask("/search/alice", "alice")).status, 200);
    await page.keyboard.press("Escape");

    await page.getByRole("button", { name: "Release" }).click();
    const release = page.getByRole("dialog", { name: "Release bob" });
    await release.getByLabel("Why").fill("it is over");
    await release.getByRole("button", { name: "Release bob" }).click();
    await release.getByText("bob is free again").waitFor();
    assert.equal((await gate.ask("/search/bob", "bob")).status, 200);
  });
});

test("a breaker held open from the page refuses, and the page shows it", async () => {
  await at("upstream/search", async (page) => {
    await page.getByRole("button", { name: "Hold…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Why").fill("a test");
    await dialog.getByRole("button", { name: "Hold it open" }).click();
    await dialog.getByText("held open").waitFor();
    assert.equal((await gate.ask("/search/x", "alice")).status, 503);
    await page.keyboard.press("Escape");
    await page.getByText("open · held").first().waitFor();
    await page.getByRole("button", { name: "Change…" }).click();
    await dialog.getByLabel("Why").fill("it is over");
    await dialog.getByRole("button", { name: "Let it decide" }).click();
    await dialog.getByText("decides by itself").waitFor();
  });
});

test("everything can be done from the keyboard", async () => {
  await at("clients", async (page) => {
    await page.getByRole("button", { name: "Isolate bob" }).waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    const opener = page.getByRole("button", { name: "Isolate bob" });
    await opener.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    assert.ok(await page.evaluate(() => document.querySelector("dialog").contains(document.activeElement)));
    await unobstructed(page, "a dialog");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Isolate bob");
  });
});

test("nothing stands in anybody's way in any view", async () => {
  const order = { kind: "endpoint", subject: `search/${service.address}`, ttl: "5m", reason: "so that lists have something in them" };
  await gate.post("isolations", order);
  for (const view of [...VIEWS, `why/${scenario.lost.id}`]) {
    await at(view, async (page) => {
      await page.getByText("live", { exact: true }).waitFor();
      await page.waitForLoadState("load");
      await unobstructed(page, view);
      await eventually(`${view} is in sight among the views`, async () => {
        const [current, names] = await Promise.all([page.locator("nav [aria-current]").boundingBox(), page.locator("nav").boundingBox()]);
        return current.x >= names.x && current.x + current.width <= names.x + names.width;
      });
    });
  }
});

test("a wrong token is refused, the right one lets in, and leaving locks", async () => {
  const locked = await proxy(config(service.address), { token: "open-sesame" });
  try {
    await at(
      "now",
      async (page) => {
        await page.getByLabel("Admin token").fill("open-says-me");
        await page.getByRole("button", { name: "Log in" }).click();
        await page.getByText("This is not the admin token.").waitFor();
        await page.getByLabel("Admin token").fill("open-sesame");
        await page.getByRole("button", { name: "Log in" }).click();
        await page.getByText("live", { exact: true }).waitFor();
        assert.equal(await page.evaluate(() => document.cookie), "", "no script reads it");
        await page.reload();
        await page.getByText("live", { exact: true }).waitFor();
        await page.goto(`${locked.page}/#/config`);
        await page.getByRole("button", { name: "Reload…" }).click();
        await page.getByLabel("Why").fill("a test");
        await page.getByRole("button", { name: "Reload", exact: true }).click();
        await page.getByText("It was read and taken over").waitFor();
        await page.keyboard.press("Escape");
        await page.getByRole("button", { name: "Log out" }).click();
        await page.getByLabel("Admin token").waitFor();
        await page.reload();
        await page.getByLabel("Admin token").waitFor();
        await unobstructed(page, "the way in");
      },
      { from: locked, expected: /401/ },
    );
  } finally {
    await locked.close();
  }
});

test("a page that lost its proxy finds the next one by itself", async () => {
  const own = await proxy(config(service.address));
  try {
    await at(
      "now",
      async (page) => {
        await page.getByText("live", { exact: true }).waitFor();
        const { pid } = await own.api("status");
        await page.getByText(`pid ${pid}`).waitFor();
        await own.stop("SIGKILL");
        await page.getByText("reconnecting…").waitFor();
        await own.start();
        const next = (await own.api("status")).pid;
        assert.notEqual(next, pid);
        await page.getByText(`pid ${next}`).waitFor();
        await page.getByText("live", { exact: true }).waitFor();
      },
      { from: own, expected: /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|ERR_NETWORK/ },
    );
  } finally {
    await own.close();
  }
});
