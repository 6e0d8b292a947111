// The page: who may see it, where one is, and how things stand, in every view.

import { render, type FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { del, onLocked, post, Refused } from "./api";
import { Releasing } from "./actions";
import { theme } from "./charts";
import * as live from "./live";
import { Store, useStore } from "./store";
import { Note } from "./ui";
import { Cache } from "./views/cache";
import { Clients } from "./views/clients";
import { Config } from "./views/config";
import { Incidents } from "./views/incidents";
import { Now } from "./views/now";
import { Traffic } from "./views/traffic";
import { UpstreamView } from "./views/upstream";
import { WhyView } from "./views/why";
import { plain, sentence, span } from "./words";
import "./style.css";

const VIEWS: [path: string, word: string, view: FunctionComponent<{ rest: string }>][] = [
  ["now", "Now", Now],
  ["upstream", "Upstream", UpstreamView],
  ["clients", "Clients", Clients],
  ["traffic", "Traffic", Traffic],
  ["cache", "Cache", Cache],
  ["incidents", "Incidents", Incidents],
  ["why", "Why", WhyView],
  ["config", "Config", Config],
];

const locked = new Store(false);
/** Whether this browser was let in by a token, and so may leave; no script sees the session itself. */
const letIn = new Store(localStorage.getItem("let-in") !== null);
const enter = (isIn: boolean) => {
  if (isIn) localStorage.setItem("let-in", "");
  else localStorage.removeItem("let-in");
  letIn.set(isIn);
};

function useHash(): [path: string, rest: string] {
  const read = () => window.location.hash.replace(/^#\/?/, "");
  const [hash, set] = useState(read());
  useEffect(() => {
    const changed = () => {
      set(read());
      window.scrollTo(0, 0);
    };
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  const [path = "", ...rest] = hash.split("/");
  return [path || "now", decode(rest.join("/"))];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function Page() {
  const isLocked = useStore(locked);
  const [path, rest] = useHash();
  useEffect(() => {
    if (!isLocked) live.start();
    return live.stop;
  }, [isLocked]);
  const [, word, View] = VIEWS.find(([one]) => one === path) ?? VIEWS[0]!;
  useEffect(() => {
    document.title = `${word} · Tidegate`;
    // In a narrow window not all of the views' names are in sight.
    const show = () => document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    show();
    window.addEventListener("resize", show);
    return () => window.removeEventListener("resize", show);
  }, [word, isLocked]);
  if (isLocked) return <Login />;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="#/now">
          <img src="/icon.svg" alt="" width="26" height="26" />
          Tidegate
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([one, name]) => (
            <a key={one} href={`#/${one}`} aria-current={one === path ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <Standing />
      </header>
      <main id="main" tabIndex={-1}>
        <View rest={rest} />
      </main>
      <Foot />
      <Releasing />
    </>
  );
}

/** How things stand, wherever one looks. */
function Standing() {
  const moment = useStore(live.moment);
  const link = useStore(live.link);
  const scheme = useStore(theme);
  const verdict = moment?.diagnosis.verdicts[0];
  const lagging = moment?.diagnosis.lagging ?? false;
  const state = !moment ? "…" : verdict ? plain(sentence(verdict)) : lagging ? "Clients suffer" : "All is well";
  const tone = !moment || link === "lost" ? "quiet" : lagging || verdict ? "bad" : "ok";
  const dark = scheme === "dark";
  const leave = useStore(letIn);
  return (
    <div class="standing">
      <a class={`state ${tone}`} href="#/now" title={state}>
        <i aria-hidden="true" />
        <span aria-live="polite">{state}</span>
      </a>
      <span class={`wire ${link}`} role="status" title={link === "live" ? "Each second is shown as it passes" : "Not connected; what you see is old"}>
        {link === "live" ? "live" : link === "lost" ? "reconnecting…" : "connecting…"}
      </span>
      <button type="button" class="quiet" aria-label={dark ? "Use light colours" : "Use dark colours"} onClick={() => paint(dark ? "light" : "dark")}>
        {dark ? "☀" : "☾"}
      </button>
      {leave && (
        <button type="button" class="quiet" onClick={() => void del("session").finally(() => (enter(false), locked.set(true)))}>
          Log out
        </button>
      )}
    </div>
  );
}

function Foot() {
  const process = useStore(live.moment)?.process;
  if (!process) return null;
  return (
    <footer class="foot muted">
      Tidegate {process.version} · pid {process.pid} · up {span(process.uptime_seconds)} · configuration {process.config_hash.slice(0, 12)}
      {process.draining && <b class="bad-text"> · draining: it finishes what is in flight, then ends</b>}
    </footer>
  );
}

function Login() {
  const [token, setToken] = useState("");
  const [wrong, setWrong] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setWrong(null);
    try {
      await post("session", { token });
      enter(true);
      locked.set(false);
    } catch (error) {
      const refused = error instanceof Refused && error.status === 401;
      setWrong(refused ? "This is not the admin token." : String((error as Error).message));
    }
    setBusy(false);
  };
  return (
    <main class="login" id="main">
      <form onSubmit={(event) => (event.preventDefault(), void submit())}>
        <img src="/icon.svg" alt="" width="44" height="44" />
        <h1>Tidegate</h1>
        <p class="muted">This one is kept by a token: the one in [admin] of its configuration.</p>
        <label class="field">
          <span>Admin token</span>
          <input type="password" autocomplete="current-password" required autofocus value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        </label>
        {wrong && <Note tone="bad">{wrong}</Note>}
        <button class="primary" disabled={busy || token === ""}>
          Log in
        </button>
      </form>
    </main>
  );
}

function paint(scheme: string) {
  document.documentElement.dataset.theme = scheme;
  localStorage.setItem("theme", scheme);
  theme.set(scheme);
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  theme.set(chosen ?? (prefersDark.matches ? "dark" : "light"));
};
prefersDark.addEventListener("change", follow);
follow();
onLocked(() => {
  // A session that ends while one looks leaves the token to be shown again.
  enter(false);
  locked.set(true);
});
render(<Page />, document.getElementById("app")!);
