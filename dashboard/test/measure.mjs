// Numbers of the page under load, to be written down and not asserted: the time to the first useful view, frames a second
// while scrolling 1,000 clients and 100 upstreams, and what an open page costs the proxy. Alone on the machine:
//   TIDEGATE=target/release/tidegate node dashboard/test/measure.mjs

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { browser } from "./browser.mjs";
import { eventually, origin, proxy } from "./proxy.mjs";

const service = await origin();
const names = Array.from({ length: 100 }, (_, i) => `service-${String(i).padStart(3, "0")}`);
const gate = await proxy(
  `[[clients.identify]]\nheader = "x-api-key"\n${names
    .map((name) => `[upstreams.${name}]\nendpoints = ["${service.address}"]\n[[routes]]\nname = "${name}"\nmatch = { path_prefix = "/${name}" }\nupstream = "${name}"\n`)
    .join("")}`,
);
const { pid } = await gate.api("status");
for (let i = 0; i < 1_000; i++) await gate.ask(`/${names[i % 100]}`, `client-${i}`);
await eventually("a thousand clients", async () => (await gate.api("clients?limit=1000")).total >= 1_000);

const ticks = Number(execFileSync("getconf", ["CLK_TCK"]));
const cpu = () => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticks;
};
const share = async (seconds) => {
  const before = cpu();
  await new Promise((over) => setTimeout(over, seconds * 1e3));
  return ((cpu() - before) / seconds) * 100;
};

const chromium = await browser();
const page = await chromium.newPage();

await page.goto(`${gate.page}/#/now`);
const first = await page.evaluate(
  () =>
    new Promise((done) => {
      const look = () => (document.querySelector(".upstreams tbody tr") ? done(performance.now()) : requestAnimationFrame(look));
      look();
    }),
);
console.log(`first useful view after ${first.toFixed(0)} ms, of 100 upstreams`);

const frames = () =>
  page.evaluate(
    () =>
      new Promise((done) => {
        const [begin, lasts] = [performance.now(), 6_000];
        let [count, worst, last] = [0, 0, begin];
        const step = (now) => {
          count += 1;
          worst = Math.max(worst, now - last);
          last = now;
          const height = document.documentElement.scrollHeight - window.innerHeight;
          const round = ((now - begin) / 3_000) % 2;
          window.scrollTo(0, height * (round < 1 ? round : 2 - round));
          if (now - begin < lasts) requestAnimationFrame(step);
          else done({ rate: (count / (now - begin)) * 1e3, worst });
        };
        requestAnimationFrame(step);
      }),
  );
const told = (what, { rate, worst }) => console.log(`${what}: ${rate.toFixed(1)} frames a second, the longest ${worst.toFixed(0)} ms`);
told("scrolling 100 upstreams", await frames());
await page.goto(`${gate.page}/#/clients`);
await page.getByRole("button", { name: /Show all/ }).click();
told("scrolling 1,000 clients", await frames());
await page.goto(`${gate.page}/#/now`);
await page.getByText("live", { exact: true }).waitFor();
const open = await share(20);
await chromium.close();
// Afterwards, so that what a thousand new clients cost is over in both.
const idle = await share(20);
console.log(`of one core: ${idle.toFixed(2)}% with nobody watching, ${open.toFixed(2)}% with the page open`);

await gate.close();
service.close();
