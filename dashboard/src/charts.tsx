// Lines over time (uPlot) and heat maps, in the page's own colours.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Heat } from "./api";
import { Store, useStore } from "./store";
import { clock, ms } from "./words";

/** `light` or `dark`, as it is at this moment. */
export const theme = new Store<string>("light");

const probe = document.createElement("span");
probe.hidden = true;

/** What a colour of the style sheet is at this moment. */
function colour(name: string): string {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

export type Line = {
  label: string;
  colour: string;
  values: (number | null)[];
  fill?: boolean;
  dash?: number[];
  step?: boolean;
};

export function Chart({
  title,
  at,
  lines,
  format,
  height = 180,
  stacked,
}: {
  title: string;
  at: number[];
  lines: Line[];
  format: (value: number) => string;
  height?: number;
  stacked?: boolean;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const scheme = useStore(theme);
  const [pointed, setPointed] = useState<number | null>(null);
  const shape = lines.map((line) => line.label).join();
  const data = columns(at, lines, stacked);

  useEffect(() => {
    const target = place.current;
    if (!target) return;
    const made = new uPlot(options(target.clientWidth, height, lines, format, stacked, setPointed), data, target);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: target.clientWidth, height }));
    resized.observe(target);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, scheme, height, stacked]);

  const newest = at.at(-1);
  useEffect(() => plot.current?.setData(data), [newest, at.length, shape]);

  const shown = pointed !== null && pointed < at.length ? pointed : at.length - 1;
  const told = lines.map((line) => {
    const value = line.values[shown];
    return { line, text: value === null || value === undefined ? "–" : format(value) };
  });
  return (
    <figure class="chart" aria-label={`${title}: ${told.map(({ line, text }) => `${line.label} ${text}`).join(", ")}`}>
      <figcaption>
        <b>{title}</b>
        <ul>
          {told.map(({ line, text }) => (
            <li key={line.label}>
              <i style={{ background: `var(--${line.colour})` }} />
              {line.label} <b>{text}</b>
            </li>
          ))}
        </ul>
        <span class="muted when">{pointed !== null && at[shown] ? clock(at[shown]) : ""}</span>
      </figcaption>
      <div ref={place} aria-hidden="true" style={{ height: `${height}px` }} />
    </figure>
  );
}

function columns(at: number[], lines: Line[], stacked?: boolean): uPlot.AlignedData {
  if (!stacked) return [at, ...lines.map((line) => line.values)] as uPlot.AlignedData;
  // From the bottom up, and drawn from the top down so that each covers the one above it.
  const sums: number[][] = [];
  let below = at.map(() => 0);
  for (const line of lines) {
    below = below.map((sum, i) => sum + (line.values[i] ?? 0));
    sums.push(below);
  }
  return [at, ...sums.reverse()] as uPlot.AlignedData;
}

function options(
  width: number,
  height: number,
  lines: Line[],
  format: (value: number) => string,
  stacked: boolean | undefined,
  point: (at: number | null) => void,
): uPlot.Options {
  const ink = colour("muted");
  const grid = { stroke: colour("hair"), width: 1 };
  const font = "11px ui-sans-serif, system-ui, sans-serif";
  const series = lines.map((line) => ({
    label: line.label,
    stroke: colour(line.colour),
    width: stacked ? 0 : 1.5,
    fill: stacked ? colour(line.colour) : line.fill ? faint(colour(line.colour)) : undefined,
    dash: line.dash,
    points: { show: false },
    paths: line.step ? uPlot.paths.stepped?.({ align: -1 }) : undefined,
  }));
  if (stacked) series.reverse();
  return {
    width,
    height,
    padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "time" }, y: false, points: { show: !stacked, size: 6 }, drag: { x: false, y: false } },
    hooks: { setCursor: [(u) => point(u.cursor.idx ?? null)] },
    scales: { x: { time: true }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.08 : 1] } },
    axes: [
      { stroke: ink, font, grid: { show: false }, ticks: { show: false }, size: 24, space: 90, values: (_u, ticks) => ticks.map((tick) => clock(tick)) },
      { stroke: ink, font, grid, ticks: { show: false }, size: 62, space: 34, values: (_u, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick))) },
    ],
    series: [{}, ...series] as uPlot.Series[],
  };
}

function faint(solid: string): string {
  return `rgba(${channels(solid).join()}, 0.14)`;
}

/** Where the requests of each second lie: time to the right, latency up, the more the stronger. */
export function HeatMap({ at, heat, bands }: { at: number[]; heat: Heat[]; bands: number[] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scheme = useStore(theme);
  const [low, high] = useMemo(() => reach(heat, bands.length), [at.at(-1), heat.length]);
  const rows = high - low + 1;
  useEffect(() => {
    const target = canvas.current;
    const context = target?.getContext("2d");
    if (!target || !context) return;
    target.width = Math.max(1, heat.length);
    target.height = rows;
    const image = context.createImageData(target.width, rows);
    const most = Math.max(1, ...heat.flatMap((second) => second.map(([, count]) => count)));
    const [from, to] = [channels(colour("heat-low")), channels(colour("heat-high"))];
    heat.forEach((second, x) => {
      for (const [band, count] of second) {
        const strength = Math.sqrt(count / most);
        const place = ((high - band) * target.width + x) * 4;
        for (let i = 0; i < 3; i++) image.data[place + i] = (from[i] ?? 0) + ((to[i] ?? 0) - (from[i] ?? 0)) * strength;
        image.data[place + 3] = 70 + 185 * strength;
      }
    });
    context.putImageData(image, 0, 0);
  }, [at.at(-1), heat.length, low, high, scheme]);
  const marks = Array.from({ length: rows }, (_, i) => high - i).filter((_, i) => i % Math.max(1, Math.ceil(rows / 6)) === 0);
  return (
    <figure class="chart heat" aria-label={`Latencies of the last ${heat.length} seconds, between ${ms(bands[low])} and ${ms(bands[high])}`}>
      <figcaption>
        <b>Latency heat map</b>
        <span class="muted">each column a second, each row a band of latency; the stronger, the more requests</span>
      </figcaption>
      <div class="heat-body">
        <div class="heat-scale" aria-hidden="true">
          {marks.map((band) => (
            <span key={band} style={{ top: `${((high - band + 1) / rows) * 100}%` }}>
              {ms(bands[band])}
            </span>
          ))}
        </div>
        <canvas ref={canvas} aria-hidden="true" />
      </div>
      <div class="heat-time muted" aria-hidden="true">
        <span>{at[0] ? clock(at[0]) : ""}</span>
        <span>{at.length ? clock(at.at(-1) ?? 0) : ""}</span>
      </div>
    </figure>
  );
}

/** The bands that hold anything, and one beyond on each side. */
function reach(heat: Heat[], bands: number): [number, number] {
  let [low, high] = [bands, -1];
  for (const second of heat) {
    for (const [band] of second) {
      low = Math.min(low, band);
      high = Math.max(high, band);
    }
  }
  if (high < 0) return [0, 7];
  return [Math.max(0, low - 1), Math.min(bands - 1, Math.max(high + 1, low + 7))];
}

function channels(colour: string): number[] {
  return (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
}
