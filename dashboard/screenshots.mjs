// Takes the README's pictures of the demo's story: starts it, waits for a verdict and for what is kept of it, looks.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { browser } from "./test/browser.mjs";
import { eventually } from "./test/proxy.mjs";

const BINARY = process.env.TIDEGATE ?? fileURLToPath(new URL("../target/release/tidegate", import.meta.url));
const PLACE = fileURLToPath(new URL("../docs/pictures/", import.meta.url));
/** What a picture may weigh. */
const MOST = 200 << 10;
const MINUTES = 60_000;

const demo = spawn(BINARY, ["demo"], { stdio: ["ignore", "pipe", "inherit"] });
let said = "";
demo.stdout.on("data", (text) => (said += text));
const chromium = await browser({ deviceScaleFactor: 1 });
try {
  await mkdir(PLACE, { recursive: true });
  const origin = await eventually("the demo tells its address", () => /dashboard\s+(http:\S+?)\/\s/.exec(said)?.[1]);
  const page = await chromium.newPage();

  const picture = async (name, view, { scheme = "light", height = 900 } = {}) => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width: 1440, height });
    await page.goto(`${origin}/#/${view}`);
    await page.getByText("live", { exact: true }).waitFor();
    // So that lines are drawn with what has just been asked for.
    await page.waitForTimeout(2_500);
    const path = `${PLACE}${name}.png`;
    await page.screenshot({ path });
    const { size } = await stat(path);
    if (size > MOST) throw new Error(`${name} weighs ${size} bytes`);
    console.log(`${name}: ${size} bytes`);
  };

  const api = async (path) => (await fetch(`${origin}/api/v1/${path}`)).json();
  await eventually("a verdict", async () => (await api("diagnosis")).verdicts[0]?.cause === "noisy_client", 10 * MINUTES);
  await picture("now", "now", { height: 1120 });
  await picture("clients", "clients");
  await picture("upstream", "upstream/shop", { scheme: "dark", height: 1000 });
  await eventually("a bundle", async () => (await api("incidents")).incidents.some((one) => one.bundle), 10 * MINUTES);
  await picture("incident", "incidents", { height: 1000 });
} finally {
  await chromium.close();
  const ended = once(demo, "exit");
  demo.kill("SIGTERM");
  await ended;
}
