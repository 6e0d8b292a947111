//! Asks the node exporters of endpoints' hosts how those are doing, so that an upstream's processors, memory and disks
//! stand beside its latency. An exporter that cannot be reached costs nothing but that knowledge.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::fetch;
use crate::clock::{Instant, SystemClock};
use crate::engine::upstream::{HostLoad, Upstreams};

/// How often each is asked, and how long that may take.
const EVERY: Duration = Duration::from_secs(5);
/// Answers kept of each: a minute, for the slope of its memory.
const KEPT: usize = 13;
/// The largest answer.
const MOST_BYTES: usize = 4 << 20;

/// What an exporter said at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    at: Instant,
    /// Seconds of all processors: in all, idle, and idle for a disk.
    processors: [f64; 3],
    /// Bytes of memory: in all, and to be had.
    memory: [f64; 2],
    load: f64,
}

impl Said {
    /// Reads the text format. None when it is not a node exporter's of Linux.
    fn read(text: &str, at: Instant) -> Option<Self> {
        let mut said = Self {
            at,
            processors: [0.0; 3],
            memory: [0.0; 2],
            load: 0.0,
        };
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            let [all, idle, iowait] = &mut said.processors;
            match series {
                "node_memory_MemTotal_bytes" => said.memory[0] = value,
                "node_memory_MemAvailable_bytes" => said.memory[1] = value,
                "node_load1" => said.load = value,
                _ if series.starts_with("node_cpu_seconds_total{") => {
                    *all += value;
                    if series.contains("mode=\"idle\"") {
                        *idle += value;
                    } else if series.contains("mode=\"iowait\"") {
                        *iowait += value;
                    }
                }
                _ => {}
            }
        }
        (said.processors[0] > 0.0 && said.memory[0] > 0.0).then_some(said)
    }

    fn used(&self) -> f64 {
        self.memory[0] - self.memory[1]
    }
}

/// The last answers of one exporter, the oldest first.
#[derive(Debug, Default)]
struct Node {
    said: VecDeque<Said>,
    /// Whether it failed last time: that is logged once.
    failed: bool,
}

impl Node {
    fn push(&mut self, said: Said) {
        if self.said.len() == KEPT {
            self.said.pop_front();
        }
        self.said.push_back(said);
    }

    /// From the last two answers, and the slope over all; none before there are two, or after the host started anew.
    fn load(&self) -> Option<HostLoad> {
        let (now, oldest) = (self.said.back()?, self.said.front()?);
        let before = self.said.get(self.said.len().checked_sub(2)?)?;
        let [all, idle, iowait] =
            std::array::from_fn(
                |at| match (now.processors.get(at), before.processors.get(at)) {
                    (Some(now), Some(before)) => now - before,
                    _ => 0.0,
                },
            );
        if all <= 0.0 || idle < 0.0 {
            return None;
        }
        let seconds = now.at.since(oldest.at).as_secs_f64();
        Some(HostLoad {
            cpu: ((all - idle - iowait) / all).clamp(0.0, 1.0),
            iowait: (iowait / all).clamp(0.0, 1.0),
            memory: (now.used() / now.memory[0]).clamp(0.0, 1.0),
            memory_slope: (now.used() - oldest.used()) / seconds.max(1.0),
            load: now.load,
        })
    }
}

/// Asks all exporters, of which the configuration bounds the number, again and again, until the runtime ends.
pub(super) async fn watch(upstreams: Arc<Upstreams>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nodes: HashMap<Arc<str>, Node> = HashMap::new();
    loop {
        ticks.tick().await;
        let mut asked: HashMap<Arc<str>, Node> = HashMap::new();
        for_each(&upstreams, |url, _| {
            let known = nodes.remove(url).unwrap_or_default();
            asked.entry(Arc::clone(url)).or_insert(known);
        });
        nodes = ask(asked).await;
        for_each(&upstreams, |url, tell| {
            tell(nodes.get(url).and_then(Node::load));
        });
    }
}

/// Calls `each` with the URL of every endpoint that has one, and with what tells it how its host is doing.
fn for_each(upstreams: &Upstreams, mut each: impl FnMut(&Arc<str>, &dyn Fn(Option<HostLoad>))) {
    for upstream in upstreams.all() {
        for member in upstream.endpoints().members() {
            if let Some(url) = member.endpoint.node() {
                each(&url, &|load| member.endpoint.set_host(load));
            }
        }
    }
}

/// Asks each once, all at the same time.
async fn ask(nodes: HashMap<Arc<str>, Node>) -> HashMap<Arc<str>, Node> {
    let mut asking = JoinSet::new();
    for (url, mut node) in nodes {
        asking.spawn(async move {
            let answer = fetch::get(&url, "text/plain; version=0.0.4", MOST_BYTES, EVERY).await;
            let now = SystemClock.now();
            let said = answer.map(|bytes| Said::read(&String::from_utf8_lossy(&bytes), now));
            let error = match said {
                Ok(Some(said)) => {
                    node.push(said);
                    node.failed = false;
                    return (url, node);
                }
                Ok(None) => "its answer has neither node_cpu_seconds_total nor node_memory".to_owned(),
                Err(error) => error.to_string(),
            };
            node.said.clear();
            if !std::mem::replace(&mut node.failed, true) {
                tracing::warn!(%url, %error, "a node exporter does not answer; how its host is doing is not known");
            }
            (url, node)
        });
    }
    let mut answered = HashMap::new();
    while let Some(one) = asking.join_next().await {
        answered.extend(one);
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host with two processors says: each `busy` of `elapsed` seconds, and waiting for a disk as long.
    fn text(elapsed: f64, busy: f64, used: f64) -> String {
        let idle = elapsed - 2.0 * busy;
        let cpu = |cpu| {
            format!(
                "node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"idle\"}} {idle}\n\
                 node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"iowait\"}} {busy}\n\
                 node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"user\"}} {busy}\n"
            )
        };
        format!(
            "# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 1.5\n{}{}\
             node_memory_MemTotal_bytes 1e+06\nnode_memory_MemAvailable_bytes {}\n",
            cpu(0),
            cpu(1),
            1e6 - used
        )
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_host_is_read_from_two_answers() {
        let mut node = Node::default();
        node.push(Said::read(&text(100.0, 10.0, 2e5), at(0)).unwrap());
        assert_eq!(node.load(), None);
        node.push(Said::read(&text(110.0, 12.0, 3e5), at(10)).unwrap());
        let load = node.load().unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(load.cpu, 0.2) && close(load.iowait, 0.2), "{load:?}");
        assert!(close(load.memory, 0.3), "{load:?}");
        assert!(close(load.memory_slope, 1e4), "{load:?}");
        assert!(close(load.load, 1.5), "{load:?}");
        // It started anew.
        node.push(Said::read(&text(1.0, 0.1, 1e5), at(20)).unwrap());
        assert_eq!(node.load(), None);
    }

    #[test]
    fn a_minute_is_kept_and_what_is_no_node_exporter_is_none() {
        let mut node = Node::default();
        for second in 0..100_u32 {
            let text = text(100.0 + f64::from(second), 1.0, 1e5);
            node.push(Said::read(&text, at(second.into())).unwrap());
        }
        assert_eq!(node.said.len(), KEPT);
        for text in ["", "<html>", "node_load1 x", "up 1"] {
            assert_eq!(Said::read(text, at(0)), None, "{text:?}");
        }
    }
}
