//! The narrator: makes things go wrong, in turn, and tells what Tidegate says about it and what clients feel.
//!
//! Asks the admin API as anybody would, once a second. Waits for conditions where there are such: it goes on when the
//! cause is found and gone again, or after a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::super::client::{Admin, Client};
use super::super::diagnose::verdict_lines;
use super::super::print;
use super::Scenario;
use super::world::World;
use crate::admin::api::{Diagnosis, Isolate, Isolated, Purge, Purged, Released, Verdict};

/// How long Tidegate needs to learn what is usual.
const LEARN: Duration = Duration::from_secs(50);
/// How long something is wrong.
const WRONG: Duration = Duration::from_secs(40);
/// How long it is left alone afterwards, at most, until nothing is said to be wrong any more.
const HEAL: Duration = Duration::from_secs(60);
/// Calm before the next thing goes wrong.
const CALM: Duration = Duration::from_secs(25);
/// For how many seconds a verdict has to stand before it is acted on.
const STANDS: u64 = 3;
/// How often the clients are asked how they feel.
const EVERY: u64 = 10;

/// Tells `scenarios` one after the other, for ever; `acts`: and does what the verdicts say is to be done.
pub(super) fn tell(world: &Arc<World>, admin: Admin, scenarios: &[Scenario], acts: bool) {
    let (_nobody, silence) = channel();
    let mut story = Story {
        world: Arc::clone(world),
        client: Client::new(admin, None),
        silence,
        heard: (String::new(), 0),
        said: String::new(),
        worst: 0.0,
        acts,
        held: BTreeMap::new(),
    };
    story.say("  50 clients go about their day. It takes Tidegate a while to learn what is usual.");
    story.watch(LEARN, |_| false, |_| {});
    loop {
        for scenario in scenarios {
            story.play(*scenario);
        }
    }
}

struct Story {
    world: Arc<World>,
    client: Client,
    /// Never speaks: what it is waited on.
    silence: Receiver<()>,
    /// The first verdict of late, without its numbers, and for how many seconds it has been that.
    heard: (String, u64),
    /// The verdicts that were told last, without their numbers.
    said: String,
    /// The slowest p98 of the clients since the scenario began, seconds.
    worst: f64,
    /// Whether it does what a verdict says is to be done.
    acts: bool,
    /// Whom it holds apart, by kind and subject, under which id.
    held: BTreeMap<(String, String), String>,
}

impl Scenario {
    const fn opening(self) -> &'static str {
        match self {
            Self::BorrowedPeak => {
                "the client `reports` runs its reports while the shop is busy: 60 at a time, each ten times as dear"
            }
            Self::SlowEndpoint => {
                "one of the three endpoints of `search` takes 600 ms more than the others"
            }
            Self::CacheFlush => {
                "a job empties the cache of `catalog` every second; its origin can carry half of what is asked for"
            }
            Self::RetryStorm => {
                "`shop` fails seven requests in ten, and the mobile app tries again at once, up to ten times"
            }
        }
    }

    fn begin(self, world: &World) {
        match self {
            Self::BorrowedPeak => world.reports.store(true, Ordering::Relaxed),
            Self::SlowEndpoint => world.slow_ms.store(600, Ordering::Relaxed),
            Self::CacheFlush => {}
            Self::RetryStorm => {
                world.failing.store(70, Ordering::Relaxed);
                world.impatient.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Story {
    fn play(&mut self, scenario: Scenario) {
        self.watch(CALM, |_| false, |_| {});
        let before = self.world.felt(Duration::from_secs(10));
        self.say(&format!("▶ {}", scenario.opening()));
        self.worst = 0.0;
        scenario.begin(&self.world);
        self.watch(
            WRONG,
            |_| false,
            |story| {
                if scenario == Scenario::CacheFlush {
                    story.flush();
                }
            },
        );
        self.world.mend();
        self.say(&format!(
            "■ it is over. Ordinary clients: p98 {:.0} ms before, {:.0} ms at the worst",
            before.p98 * 1e3,
            self.worst * 1e3,
        ));
        self.release();
        self.watch(HEAL, |diagnosis| !diagnosis.lagging, |_| {});
    }

    /// Lets the time go by, at most `at_most`, until `done`; does `each` every second, and tells what Tidegate
    /// says when that is something new.
    fn watch(
        &mut self,
        at_most: Duration,
        done: impl Fn(&Diagnosis) -> bool,
        each: impl Fn(&Self),
    ) {
        for second in 1..=at_most.as_secs() {
            // Nobody ever speaks, so this waits a second.
            let _silent = self.silence.recv_timeout(Duration::from_secs(1));
            each(self);
            let felt = self.world.felt(Duration::from_secs(5));
            self.worst = self.worst.max(felt.p98);
            if second % EVERY == 0 {
                self.say(&format!(
                    "  ordinary clients: {:.0} requests/s, p50 {:.0} ms, p98 {:.0} ms, {:.1}% failed",
                    felt.rate,
                    felt.p50 * 1e3,
                    felt.p98 * 1e3,
                    felt.failed * 100.0,
                ));
            }
            match self.client.get::<Diagnosis>("/api/v1/diagnosis") {
                Ok((diagnosis, _)) => {
                    self.hear(&diagnosis);
                    if done(&diagnosis) {
                        return;
                    }
                }
                Err(error) => self.say(&format!("  {error}")),
            }
        }
    }

    /// Tells the first verdict when it is another than before and has stood a while, and when there is none any more. In
    /// the first seconds of an incident one verdict gives way to another, and who acts on it is too early.
    fn hear(&mut self, diagnosis: &Diagnosis) {
        let first = diagnosis.verdicts.first();
        let said = first.map_or_else(String::new, name);
        if self.heard.0 == said {
            self.heard.1 += 1;
        } else {
            self.heard = (said.clone(), 1);
        }
        if said == self.said || self.heard.1 < STANDS {
            return;
        }
        match first {
            Some(verdict) => {
                self.say("◆ tidegate diagnose");
                let _shown = print(&format!("          {}", verdict_lines(verdict, 10)));
                if self.acts
                    && let Some(action) = &verdict.action
                {
                    self.act(action);
                }
            }
            None => self.say("◆ tidegate diagnose: nothing is wrong"),
        }
        self.said = said;
    }

    /// Does what the verdict says is to be done.
    fn act(&mut self, action: &Isolate) {
        let asked = serde_json::to_vec(action).unwrap_or_default();
        match self.client.post::<Isolated>("/api/v1/isolations", asked) {
            Ok((done, _)) => {
                self.say(&format!(
                    "◆ done: {} {} is in {} until it is released",
                    action.kind, action.subject, done.to
                ));
                let subject = (action.kind.clone(), action.subject.clone());
                self.held.extend(done.id.map(|id| (subject, id)));
            }
            Err(error) => self.say(&format!("  {error}")),
        }
    }

    /// Undoes what was done.
    fn release(&mut self) {
        for id in std::mem::take(&mut self.held).into_values() {
            let path = format!("/api/v1/isolations/{id}?reason=the%20incident%20is%20over");
            match self.client.delete::<Released>(&path) {
                Ok((done, _)) => self.say(&format!(
                    "◆ {} {} is released; nothing remains of it",
                    done.isolation.kind, done.isolation.subject
                )),
                Err(error) => self.say(&format!("  {error}")),
            }
        }
    }

    fn flush(&self) {
        let purge = Purge {
            prefix: Some("http://demo/catalog/".to_owned()),
            reason: "the demo's job".to_owned(),
            ..Purge::default()
        };
        let asked = serde_json::to_vec(&purge).unwrap_or_default();
        if let Err(error) = self.client.post::<Purged>("/api/v1/cache/purge", asked) {
            self.say(&format!("  {error}"));
        }
    }

    fn say(&self, text: &str) {
        let seconds = self.world.age().as_secs();
        let _shown = print(&format!("{:02}:{:02}  {text}", seconds / 60, seconds % 60));
    }
}

fn name(verdict: &Verdict) -> String {
    format!("{} {}", verdict.cause, verdict.subject)
}
