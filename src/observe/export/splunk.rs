//! Lines and events to Splunk's HTTP Event Collector.
//!
//! Several batches are on their way at once, each on a connection of its own, since an acknowledgement takes the
//! indexer seconds. While Splunk is away one batch at a time is tried, with growing pauses; the others wait on
//! disk, where there is such a place, up to its bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, Uri};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Lines;
use super::client::{Client, GZIP, gzip};
use super::queue::Queue;
use super::retry::{Patience, Verdict, pause, verdict};
use super::spill::{self, Directory, Kept};
use crate::clock::{Instant, SystemClock};
use crate::config::plan::Splunk;

/// Bytes of lines in a batch.
const BATCH: usize = 512 << 10;
/// How long a batch may wait to become full.
const LINGER: Duration = Duration::from_secs(1);
/// Batches on their way at once.
const MAX_ON_THE_WAY: usize = 8;
/// How often the acknowledgement is asked for, and for how long.
const ASK_EVERY: Duration = Duration::from_millis(500);
const MAX_ASKS: u32 = 120;

const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");

/// Lines, as the collector takes them, compressed.
struct Batch {
    body: Bytes,
    count: u64,
    /// Where it is kept, if it is.
    kept: Option<Kept>,
}

/// Sends what comes to Splunk, until nothing more will come.
pub(super) async fn run(config: Splunk, queue: &Queue<Lines>, host: Arc<str>) {
    let config = Arc::new(config);
    let directory = config.spill.clone().and_then(|spill| {
        let opened = Directory::open(&spill);
        let complain = |error: &std::io::Error| {
            tracing::error!(%error, path = %spill.path.display(), "nothing can wait on disk for Splunk");
        };
        opened.inspect_err(complain).ok()
    });
    let exporter = Exporter {
        channel: uuid::Uuid::from_u128(channel(&host)).to_string(),
        config,
        directory,
        held: Vec::new(),
        clients: Vec::new(),
        on_the_way: JoinSet::new(),
        patience: Patience::new("splunk"),
        try_at: Instant::ZERO,
        queue,
        host,
    };
    exporter.run().await;
}

/// Any number that two processes hardly share.
fn channel(host: &str) -> u128 {
    use std::hash::BuildHasher;
    let state = std::hash::RandomState::new();
    u128::from(state.hash_one(host)) << 64 | u128::from(state.hash_one((host, 1)))
}

struct Exporter<'a> {
    config: Arc<Splunk>,
    channel: String,
    host: Arc<str>,
    queue: &'a Queue<Lines>,
    directory: Option<Directory>,
    /// What was not taken and is not on disk.
    held: Vec<Batch>,
    clients: Vec<Client>,
    on_the_way: JoinSet<(Client, Batch, Verdict)>,
    patience: Patience,
    /// While Splunk is away: when to try again.
    try_at: Instant,
}

impl Exporter<'_> {
    async fn run(mut self) {
        loop {
            self.send_what_waits().await;
            let closed = self.queue.is_closed();
            if closed && self.is_away() && self.on_the_way.is_empty() {
                return self.give_up().await;
            }
            let away = self.is_away();
            let may_take = if away {
                // To be put on disk, or for want of a disk left where they are.
                self.directory.is_some()
            } else {
                self.on_the_way.len() < MAX_ON_THE_WAY
            };
            tokio::select! {
                Some(done) = self.on_the_way.join_next() => {
                    if let Ok((client, batch, verdict)) = done {
                        self.settle(client, batch, verdict).await;
                    }
                }
                taken = self.queue.take(BATCH, LINGER), if may_take => match taken {
                    Some((lines, count)) => {
                        let batch = encode(&self.config, &self.host, &lines, count);
                        drop(lines);
                        if self.is_away() { self.keep(batch).await } else { self.send(batch) }
                    }
                    None if self.on_the_way.is_empty() && self.held.is_empty() => return,
                    None => self.settle_one().await,
                },
                () = pause_until(self.try_at), if away && self.on_the_way.is_empty() => {}
            }
        }
    }

    const fn is_away(&self) -> bool {
        self.patience.failures() > 0
    }

    /// Sends what was not taken before: all of it, or a single batch while Splunk is away.
    async fn send_what_waits(&mut self) {
        loop {
            let room = if self.is_away() {
                self.on_the_way.is_empty() && SystemClock.now() >= self.try_at
            } else {
                self.on_the_way.len() < MAX_ON_THE_WAY
            };
            if !room || self.queue.is_closed() && self.is_away() {
                return;
            }
            if let Some(batch) = self.held.pop() {
                self.send(batch);
                continue;
            }
            let Some(kept) = self.directory.as_mut().and_then(Directory::oldest) else {
                if self.is_away() {
                    // Nothing to try with: the next batch that comes shall be it.
                    self.patience = Patience::new("splunk");
                }
                return;
            };
            let path = kept.path.clone();
            let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
            match read {
                Ok(Ok(body)) => self.send(Batch {
                    body: body.into(),
                    count: kept.count,
                    kept: Some(kept),
                }),
                Ok(Err(_)) | Err(_) => {
                    drop(self.queue.counts().on_the_way(kept.count));
                    if let Some(directory) = &mut self.directory {
                        directory.remove(&kept);
                    }
                }
            }
        }
    }

    fn send(&mut self, batch: Batch) {
        let config = Arc::clone(&self.config);
        let client = self.clients.pop().unwrap_or_else(|| {
            let token = format!("Splunk {}", config.token.expose());
            Client::new(&config.url, config.ca.as_deref(), false)
                .with(AUTHORIZATION, &token)
                .with(CHANNEL, &self.channel)
        });
        let asks = config
            .acknowledge
            .then(|| acks(&config.url, &self.channel))
            .flatten();
        self.on_the_way.spawn_local(deliver(client, batch, asks));
    }

    async fn settle_one(&mut self) {
        if let Some(Ok((client, batch, verdict))) = self.on_the_way.join_next().await {
            self.settle(client, batch, verdict).await;
        }
    }

    async fn settle(&mut self, client: Client, batch: Batch, verdict: Verdict) {
        self.clients.push(client);
        let way = self.queue.counts().on_the_way(batch.count);
        match verdict {
            Verdict::Taken => {
                self.patience.worked();
                way.arrived();
                self.forget(&batch);
            }
            Verdict::Refused(what) => {
                tracing::warn!("Splunk refused a batch: {what}");
                self.forget(&batch);
            }
            Verdict::Later(what, asked) => {
                way.kept();
                let wait = self.patience.failed(&what, asked);
                self.try_at = SystemClock.now().after(wait);
                self.keep(batch).await;
            }
        }
    }

    fn forget(&mut self, batch: &Batch) {
        if let (Some(directory), Some(kept)) = (&mut self.directory, &batch.kept) {
            directory.remove(kept);
        }
    }

    /// Puts a batch on disk. Without a disk it is held, if it is one of those that were on their way.
    async fn keep(&mut self, batch: Batch) {
        let Some(directory) = &mut self.directory else {
            return self.held.push(batch);
        };
        if let Some(kept) = batch.kept {
            return directory.put_back(kept);
        }
        let Some(kept) = directory.reserve(batch.body.len() as u64, batch.count) else {
            return self.queue.counts().drop_more(batch.count);
        };
        let (path, body) = (kept.path.clone(), batch.body);
        let written = tokio::task::spawn_blocking(move || spill::write(&path, &body)).await;
        match written {
            Ok(Ok(())) => directory.add(kept),
            Ok(Err(_)) | Err(_) => {
                directory.remove(&kept);
                self.queue.counts().drop_more(batch.count);
            }
        }
    }

    /// The end, and Splunk is away: what can be put on disk stays there, the rest is lost.
    async fn give_up(mut self) {
        for batch in std::mem::take(&mut self.held) {
            drop(self.queue.counts().on_the_way(batch.count));
        }
        while let Some((lines, count)) = self.queue.take(BATCH, Duration::ZERO).await {
            let batch = encode(&self.config, &self.host, &lines, count);
            if self.directory.is_some() {
                self.keep(batch).await;
            } else {
                drop(self.queue.counts().on_the_way(count));
            }
        }
    }
}

async fn pause_until(at: Instant) {
    pause(at.since(SystemClock.now())).await;
}

/// Where acknowledgements are asked for.
fn acks(url: &Uri, channel: &str) -> Option<Uri> {
    let base = url
        .path()
        .trim_end_matches("/event")
        .trim_end_matches("/raw");
    let mut parts = url.clone().into_parts();
    parts.path_and_query = format!("{base}/ack?channel={channel}").parse().ok();
    Uri::from_parts(parts).ok()
}

/// Sends a batch, and waits for the acknowledgement where one is asked for.
async fn deliver(mut client: Client, batch: Batch, asks: Option<Uri>) -> (Client, Batch, Verdict) {
    let answer = client
        .post("application/json", GZIP, batch.body.clone())
        .await;
    let taken = verdict(&answer);
    let (Verdict::Taken, Some(asks), Ok(answer)) = (&taken, asks, answer) else {
        return (client, batch, taken);
    };
    let id = serde_json::from_slice::<Value>(&answer.body).ok();
    let Some(id) = id.and_then(|answer| answer.get("ackId")?.as_u64()) else {
        let what = "the answer has no ackId; the token is not set up for acknowledgement";
        return (client, batch, Verdict::Refused(what.to_owned()));
    };
    let question = Bytes::from(json!({ "acks": [id] }).to_string());
    for _ in 0..MAX_ASKS {
        let answer = client
            .post_to(&asks, "application/json", None, question.clone())
            .await;
        let answer = answer
            .ok()
            .and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
        let acked = answer.and_then(|answer| answer.get("acks")?.get(id.to_string())?.as_bool());
        if acked == Some(true) {
            return (client, batch, Verdict::Taken);
        }
        pause(ASK_EVERY).await;
    }
    let what = "no acknowledgement within a minute".to_owned();
    (client, batch, Verdict::Later(what, None))
}

/// Puts each line into the collector's envelope.
fn encode(config: &Splunk, host: &str, lines: &[Lines], count: u64) -> Batch {
    let mut out = Vec::new();
    for block in lines {
        let mut envelope = json!({ "host": host, "source": "tidegate", "sourcetype": block.kind });
        if let (Some(index), Some(object)) = (&config.index, envelope.as_object_mut()) {
            object.insert("index".into(), index.as_str().into());
        }
        // Without its closing brace.
        let mut envelope = envelope.to_string();
        envelope.pop();
        for line in block
            .block
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            out.extend_from_slice(envelope.as_bytes());
            if let Some(time) = time(line) {
                out.extend_from_slice(format!(",\"time\":{time}").as_bytes());
            }
            out.extend_from_slice(b",\"event\":");
            out.extend_from_slice(line);
            out.extend_from_slice(b"}\n");
        }
    }
    Batch {
        body: gzip(&out).into(),
        count,
        kept: None,
    }
}

/// The time a line begins with, in seconds since the Unix epoch.
fn time(line: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(b"{\"ts\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let text = std::str::from_utf8(rest.get(..end)?).ok()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    let (seconds, micros) = (at.as_second(), at.subsec_nanosecond() / 1_000);
    Some(format!("{seconds}.{micros:06}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::config::plan::Secret;

    #[test]
    fn each_line_gets_an_envelope_with_its_own_time() {
        let config = Splunk {
            url: Uri::from_static("https://splunk:8088/services/collector/event"),
            token: Secret::new("t".into()),
            index: Some("web".into()),
            acknowledge: false,
            ca: None,
            spill: None,
        };
        let lines = [
            Lines {
                block: b"{\"ts\":\"2026-09-21T14:13:20.123456Z\",\"status\":200}\n{\"a\":1}\n"
                    .to_vec(),
                kind: "tidegate:access",
            },
            Lines {
                block: b"{\"ts\":\"2026-09-21T14:13:20Z\",\"kind\":\"reload\"}\n".to_vec(),
                kind: "tidegate:event",
            },
        ];
        let batch = encode(&config, "gate", &lines, 3);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*batch.body)
            .read_to_string(&mut text)
            .unwrap();
        let all: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0]["time"], 1_790_000_000.123_456);
        assert_eq!(
            (&all[0]["index"], &all[0]["event"]["status"]),
            (&"web".into(), &200.into())
        );
        assert_eq!(
            (all[1].get("time"), &all[1]["event"]["a"]),
            (None, &1.into())
        );
        assert_eq!(
            (&all[2]["sourcetype"], &all[2]["host"]),
            (&"tidegate:event".into(), &"gate".into())
        );
        assert!(text.contains("\"time\":1790000000.000000,"));
    }

    #[test]
    fn acknowledgements_are_asked_for_beside_the_events() {
        let url = Uri::from_static("https://splunk:8088/services/collector/event");
        let asked = acks(&url, "c").unwrap();
        assert_eq!(
            asked,
            "https://splunk:8088/services/collector/ack?channel=c"
        );
    }
}
