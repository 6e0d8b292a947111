// A Chromium with a profile of its own, and what every test asks of every page.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function executable() {
  const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const found = places.find((place) => place && existsSync(place));
  if (!found) throw new Error("there is no Chromium: scripts/install-test-packages.sh installs one");
  return found;
}

/** A browser with an empty profile, which goes with it. */
export async function browser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "tidegate-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: executable(),
    headless: true,
    args: ARGUMENTS,
    chromiumSandbox: false,
    viewport: { width: 1440, height: 900 },
    ...options,
  });
  const close = context.close.bind(context);
  context.close = async () => {
    await close();
    await rm(profile, { recursive: true, force: true });
  };
  return context;
}

/** What went wrong on a page without its saying so: errors, and requests to elsewhere. */
function watched(page, origin) {
  const wrong = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(origin)) wrong.push(`elsewhere: ${request.url()}`);
  });
  return wrong;
}

/** A page of `origin` at a view; whatever goes wrong on it, but for what is expected, fails the test. */
export async function visit(context, origin, view, use, expected = /^$/) {
  const page = await context.newPage();
  const wrong = watched(page, origin);
  try {
    await page.goto(`${origin}/#/${view}`);
    await use(page);
    assert.deepEqual(
      wrong.filter((one) => !expected.test(one)),
      [],
    );
  } finally {
    await page.close();
  }
}

/** The text of a table's row, cell by cell; none while there is no such row. */
export async function row(page, name) {
  const line = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name }) });
  return (await line.last().locator("th, td").allInnerTexts()).map((text) => text.trim().replace(/\s+/g, " "));
}

/** Nothing on the page stands in the way of anybody, whatever the colours and however wide the window. */
export async function unobstructed(page, what) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1440, 390]) {
      await page.setViewportSize({ width, height: 844 });
      await page.emulateMedia({ colorScheme });
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run());
      const found = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target).join(" ")}`);
      assert.deepEqual(found, [], `${what}, ${colorScheme}, ${width} wide`);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wider <= 0, `${what} is ${wider} px wider than a window of ${width}`);
    }
  }
}
