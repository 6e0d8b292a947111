// What the cache answers, what that saves, and how to make it forget.

import { useState } from "preact/hooks";
import { post, type Cache as One, type CachedUrl } from "../api";
import { Act, Card, Choice, Dialog, Field, Figure, Meter, Note, Reason, Table, useAsked } from "../ui";
import { bytes, cost, count, percent } from "../words";

const RESULTS: Record<string, string> = {
  hit: "from what is stored",
  stale: "stale, as allowed",
  collapsed: "along with another's",
  revalidated: "after asking whether it still holds",
  miss: "from the origin",
  bypass: "not cacheable, or not to be asked",
};

export function Cache() {
  const [purging, setPurging] = useState<string | null>(null);
  const asked = useAsked<{ caches: One[] }>("cache?limit=12", 3_000);
  const caches = asked.value?.caches ?? [];
  return (
    <div>
      <div class="heading">
        <h1>Cache</h1>
      </div>
      {asked.error && <Note tone="bad">{asked.error}</Note>}
      {asked.value && caches.length === 0 && (
        <Note>
          No route has a cache. <code>[cache.shared]</code> in the configuration and <code>cache = "shared"</code> in a route make one.
        </Note>
      )}
      {caches.map((cache) => (
        <Shown key={cache.name} cache={cache} onPurge={() => setPurging(cache.name)} />
      ))}
      {purging && <Purge cache={purging} onClose={() => setPurging(null)} />}
    </div>
  );
}

function Shown({ cache, onPurge }: { cache: One; onPurge: () => void }) {
  const total = Object.values(cache.requests).reduce((sum, value) => sum + value, 0);
  const saved = cache.top_by_saved_seconds.reduce((sum, url) => sum + url.saved_seconds, 0);
  const results = Object.keys(RESULTS).filter((result) => (cache.requests[result] ?? 0) > 0);
  return (
    <Card title={cache.name} class="wide" aside={<button type="button" onClick={onPurge}>Purge…</button>}>
      <dl class="figures">
        <Figure label="Hit ratio" value={percent(cache.hit_ratio, 1)}>
          <Meter value={cache.hit_ratio} tone="ok" label={`Hit ratio ${percent(cache.hit_ratio)}`} />
        </Figure>
        <Figure label="Origin's time saved" value={cost(saved)} unit={`by the ${cache.top_by_saved_seconds.length} that save most`} />
        <Figure label="Memory" value={bytes(cache.bytes)} unit={`of ${bytes(cache.capacity)}`}>
          <Meter value={cache.bytes} max={cache.capacity} label={`Memory ${bytes(cache.bytes)} of ${bytes(cache.capacity)}`} />
        </Figure>
        <Figure label="URLs" value={count(cache.urls)} />
        <Figure label="Requests" value={count(total)} />
        <Figure label="On their way" value={count(cache.flights)} />
      </dl>
      <div class="results" role="img" aria-label={results.map((result) => `${result} ${percent((cache.requests[result] ?? 0) / total)}`).join(", ")}>
        {results.map((result) => (
          <i key={result} class={`r-${result}`} style={{ width: `${((cache.requests[result] ?? 0) / total) * 100}%` }} />
        ))}
      </div>
      <ul class="key">
        {results.map((result) => (
          <li key={result}>
            <i class={`r-${result}`} />
            {result} <b>{count(cache.requests[result] ?? 0)}</b> <span class="muted">{RESULTS[result]}</span>
          </li>
        ))}
      </ul>
      <div class="columns">
        <Urls title="Save most" urls={cache.top_by_saved_seconds} value={(url) => cost(url.saved_seconds)} />
        <Urls title="Take most" urls={cache.top_by_bytes} value={(url) => bytes(url.bytes)} />
      </div>
    </Card>
  );
}

function Urls({ title, urls, value }: { title: string; urls: CachedUrl[]; value: (url: CachedUrl) => string }) {
  return (
    <div>
      <h3>{title}</h3>
      {urls.length === 0 ? (
        <p class="muted">Nothing is stored.</p>
      ) : (
        <Table class="plain">
          <thead>
            <tr>
              <th scope="col">URL</th>
              <th scope="col" class="num">Hits</th>
              <th scope="col" class="num">{title === "Save most" ? "Saved" : "Size"}</th>
            </tr>
          </thead>
          <tbody>
            {urls.map((url) => (
              <tr key={url.url}>
                <th scope="row" class="code clip" title={url.url}>
                  {url.url.replace(/^https?:\/\//, "")}
                </th>
                <td class="num">{count(url.hits)}</td>
                <td class="num">{value(url)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </div>
  );
}

type What = "url" | "prefix" | "tag";

function Purge({ cache, onClose }: { cache: string; onClose: () => void }) {
  const [what, setWhat] = useState<What>("prefix");
  const [text, setText] = useState("");
  const [soft, setSoft] = useState(true);
  const [reason, setReason] = useState("");
  const act = async () => {
    const { purged } = await post<{ purged: number }>("cache/purge", { cache, [what]: text, soft, reason });
    return `${count(purged)} ${purged === 1 ? "URL was" : "URLs were"} ${soft ? "made stale" : "dropped"}.`;
  };
  return (
    <Dialog title={`Purge ${cache}`} onClose={onClose}>
      <Act word={soft ? "Make stale" : "Drop"} danger={!soft} act={act}>
        <Choice
          label="What"
          value={what}
          options={[
            ["prefix", "Prefix"],
            ["url", "One URL"],
            ["tag", "Tag"],
          ]}
          onChange={setWhat}
        />
        <Field label={{ url: "URL", prefix: "URLs that begin so", tag: "Responses with this tag" }[what]}>
          <input required value={text} placeholder={what === "tag" ? "news" : "http://example.com/articles/"} onInput={(event) => setText(event.currentTarget.value)} />
        </Field>
        <label class="check">
          <input type="checkbox" checked={soft} onChange={(event) => setSoft(event.currentTarget.checked)} />
          Softly: still usable as stale, so that the origin is not asked for everything at once
        </label>
        <Reason value={reason} onChange={setReason} />
      </Act>
    </Dialog>
  );
}
