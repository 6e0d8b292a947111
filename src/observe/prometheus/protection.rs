//! What the policies decided, and how they stand.

use std::sync::Arc;

use super::out::Out;
use super::{Exposition, OTHER, name_of};
use crate::engine::breaker::State;
use crate::model::{CacheResult, Reason, TierId};
use crate::observe::keys::RejectedKey;
use crate::observe::snapshot::CircuitView;

impl Exposition {
    pub(super) fn rejected(&self, out: &mut Out) {
        let rejected = &self.families.rejected;
        let labels = |reason: &'static str, policy: &'static str, tier: Arc<str>, mode| {
            let mode: &'static str = mode;
            [
                ("reason", reason.into()),
                ("policy", policy.into()),
                ("tier", tier),
                ("mode", mode.into()),
            ]
        };
        let rows = rejected.iter().map(|(key, count)| {
            let key = RejectedKey::unpack(key);
            let tier = name_of(&self.directories.tiers, key.tier.map(TierId::index));
            let reason = key.reason.map_or("unknown", Reason::as_str);
            let policy = key.reason.map_or("unknown", Reason::policy);
            let mode = if key.observed { "observe" } else { "enforce" };
            (labels(reason, policy, tier, mode), *count)
        });
        let other = rejected.other();
        let other = other.map(|(count, _)| (labels(OTHER, OTHER, OTHER.into(), OTHER), *count));
        out.counters(
            "tidegate_rejected",
            "Requests Tidegate answered by itself; mode observe: those it would have.",
            rows.chain(other),
        )
    }

    pub(super) fn protection(&self, out: &mut Out) {
        self.limits(out);
        self.rate_limits(out);
        self.issuers(out);
        self.circuits(out);
        self.retries(out);
        self.incidents(out);
        self.slos(out);
        self.usage(out);
        self.fleet(out)
    }

    fn fleet(&self, out: &mut Out) {
        let fleet = self.snapshot.fleet;
        out.gauge(
            "tidegate_shared_up",
            "Whether the processes that share quotas can be told what is used of them; 0: each goes by its part.",
            fleet.map(|fleet| u64::from(fleet.up)),
        );
        out.gauge(
            "tidegate_shared_processes",
            "Processes that share quotas, or did when they were last heard of.",
            fleet.map(|fleet| u64::from(fleet.processes)),
        );
        out.counter(
            "tidegate_shared_errors",
            "How often Redis could not be told what was used of shared quotas.",
            fleet.map(|fleet| fleet.errors),
        )
    }

    fn usage(&self, out: &mut Out) {
        let usage = &self.snapshot.usage;
        out.gauge(
            "tidegate_usage_pending",
            "Rows of the usage ledger that wait to be written.",
            Some(usage.pending),
        );
        out.gauge(
            "tidegate_usage_written_timestamp_seconds",
            "When the usage ledger was last written; 0: never.",
            Some(usage.written),
        );
        out.counter(
            "tidegate_usage_dropped",
            "Rows of the usage ledger that were lost.",
            Some(usage.dropped),
        );
        out.counter(
            "tidegate_usage_folded",
            "Exchanges whose client the usage ledger put together with others.",
            Some(usage.folded),
        );
        out.counter(
            "tidegate_usage_squeezed",
            "Rows of the usage ledger that were put together with others: while its database was away for long, or in memory.",
            Some(usage.squeezed),
        );
        out.counter(
            "tidegate_usage_unjournaled",
            "Rows of the usage ledger that were in memory only until they were written.",
            Some(usage.unjournaled),
        );
        out.counter(
            "tidegate_usage_write_errors",
            "Attempts to write the usage ledger that failed.",
            Some(usage.errors),
        )
    }

    fn incidents(&self, out: &mut Out) {
        let causes = self.snapshot.causes.iter();
        out.gauges(
            "tidegate_incident_active",
            "1 for each cause that the diagnosis finds now.",
            causes.map(|(cause, found)| ([("cause", *cause)], u64::from(*found))),
        );
        out.counter(
            "tidegate_incident_bundles_lost",
            "Bundles of incidents that could not be made or written.",
            Some(self.snapshot.bundles_lost),
        );
        let isolations = self.snapshot.isolations.iter();
        out.gauges(
            "tidegate_isolation_active",
            "Clients, routes and endpoints that operators hold apart now.",
            isolations.map(|(kind, count)| ([("kind", *kind)], *count as u64)),
        );
        let upstreams = self.snapshot.upstreams.iter();
        let known = upstreams.filter_map(|one| Some((&one.name, one.headroom?)));
        out.gauges(
            "tidegate_upstream_headroom_ratio",
            "The part of what an upstream can carry that nobody asks for.",
            known.map(|(name, headroom)| ([("upstream", &**name)], headroom)),
        )
    }

    /// The worst of all who are held to each objective: no label tells of a client.
    fn slos(&self, out: &mut Out) {
        let slos = || self.snapshot.slos.iter();
        let burn = slos().flat_map(|slo| {
            let rates = slo.burn.iter();
            rates.map(|(window, rate)| ([("slo", &*slo.name), ("window", window)], *rate))
        });
        out.gauges(
            "tidegate_slo_burn_rate",
            "How many times too fast the error budget burns; the worst of all who are held to the objective.",
            burn,
        );
        let budget = slos().filter_map(|slo| Some(([("slo", &*slo.name)], slo.budget?)));
        out.gauges(
            "tidegate_slo_budget_remaining_ratio",
            "The part of the last six hours' error budget that is left; below 0: overdrawn.",
            budget,
        );
        let quantile = slos().filter_map(|slo| {
            let quantile = slo.quantile?.as_secs_f64();
            Some(([("slo", &*slo.name)], quantile))
        });
        out.gauges(
            "tidegate_slo_latency_seconds",
            "The quantile that the objective bounds, over its window.",
            quantile,
        );
        let missing = slos().flat_map(|slo| {
            let signals = slo.missing.iter();
            signals
                .map(|(signal, count)| ([("slo", &*slo.name), ("signal", signal)], *count as u64))
        });
        out.gauges(
            "tidegate_slo_missed",
            "How many of those who are held to the objective miss it now.",
            missing,
        )
    }

    fn issuers(&self, out: &mut Out) {
        let issuers = || self.snapshot.issuers.iter();
        let keys = issuers().map(|one| ([("issuer", &*one.url)], one.keys));
        let help = "Keys known of an issuer of tokens; 0: none of its tokens is believed.";
        out.gauges("tidegate_issuer_keys", help, keys);
        let failures = issuers().map(|one| ([("issuer", &*one.url)], one.failures));
        let help = "Fetches of an issuer's keys that failed; what was known stays.";
        out.counters("tidegate_issuer_fetch_failures", help, failures)
    }

    fn rate_limits(&self, out: &mut Out) {
        let limits = &self.snapshot.rate_limits;
        let rows = limits.iter().flat_map(|limit| {
            limit.decisions.iter().flat_map(|(mode, passed, refused)| {
                [("passed", *passed), ("refused", *refused)].map(|(decision, count)| {
                    let labels = [
                        ("policy", &*limit.name),
                        ("decision", decision),
                        ("mode", *mode),
                    ];
                    (labels, count)
                })
            })
        });
        out.counters(
            "tidegate_rate_limit_decisions",
            "What rate limits decided about requests; mode observe: what they would have.",
            rows,
        );
        let evictions = limits
            .iter()
            .map(|limit| ([("policy", &*limit.name)], limit.evictions));
        out.counters(
            "tidegate_rate_limit_evictions",
            "Keys that others took the place of while they still counted, because there are more than max_keys.",
            evictions,
        )
    }

    pub(super) fn caches(&self, out: &mut Out) {
        let caches = || self.snapshot.caches.iter();
        let rows = caches().flat_map(|one| {
            let results = CacheResult::ALL.into_iter().zip(one.results);
            results.map(|(result, count)| {
                let labels = [("cache", &*one.name), ("result", result.as_str())];
                (labels, count)
            })
        });
        let help = "Requests on routes with a cache, by what it did about them.";
        out.counters("tidegate_cache_requests", help, rows);
        let rows = caches().flat_map(|one| {
            let disk = one.disk.as_ref().map(|(bytes, _)| ("disk", *bytes));
            let tiers = std::iter::once(("memory", one.memory)).chain(disk);
            tiers.map(|(tier, bytes)| ([("cache", &*one.name), ("tier", tier)], bytes))
        });
        out.gauges("tidegate_cache_bytes", "Bytes that a cache takes.", rows);
        let rows = caches().flat_map(|one| {
            let events = one.disk.iter().flat_map(|(_, events)| events);
            events.map(|(event, count)| ([("cache", &*one.name), ("event", *event)], *count))
        });
        let help = "What happened on a cache's disk tier: responses loaded into memory, written, dropped unwritten; \
                    failed reads and writes, corrupt records, evicted segments.";
        out.counters("tidegate_cache_disk_events", help, rows)
    }

    fn limits(&self, out: &mut Out) {
        let upstreams = || self.snapshot.upstreams.iter();
        let acting = upstreams().filter(|one| one.limit.mode != "off");
        out.gauges(
            "tidegate_concurrency_limit",
            "Requests an upstream may work on at once.",
            acting.map(|one| ([("upstream", &*one.name)], u64::from(one.limit.limit))),
        );
        out.gauges(
            "tidegate_queue_depth",
            "Requests that wait for a slot at an upstream.",
            upstreams().map(|one| ([("upstream", &*one.name)], u64::from(one.limit.waiting))),
        );
        out.gauges(
            "tidegate_streams",
            "Endless responses of an upstream, which hold no slot.",
            upstreams().map(|one| ([("upstream", &*one.name)], u64::from(one.limit.streams))),
        )
    }

    fn circuits(&self, out: &mut Out) {
        let upstreams = self.snapshot.upstreams.iter();
        let upstreams: Vec<&CircuitView> = upstreams.map(|one| &one.circuit).collect();
        let routes: Vec<&CircuitView> = self.snapshot.route_circuits.iter().collect();
        for (label, prefix, circuits) in [
            ("upstream", "tidegate_breaker", upstreams),
            ("route", "tidegate_route_breaker", routes),
        ] {
            let states = circuits.iter().filter(|one| one.mode != "off");
            let states = states.flat_map(|one| {
                let now = one.report.as_ref().map(|report| report.state);
                State::ALL.into_iter().map(move |state| {
                    let labels = [(label, &*one.name), ("state", state.as_str())];
                    (labels, u64::from(now == Some(state)))
                })
            });
            let help = "1 for the state the breaker is in.";
            out.gauges(&format!("{prefix}_state"), help, states);
            let transitions = circuits.iter().flat_map(|one| {
                one.transitions.iter().map(move |(from, to, count)| {
                    let (from, to) = (from.as_str(), to.as_str());
                    ([(label, &*one.name), ("from", from), ("to", to)], *count)
                })
            });
            let help = "Changes of the breaker's state.";
            out.counters(&format!("{prefix}_transitions"), help, transitions);
        }
    }

    fn retries(&self, out: &mut Out) {
        let upstreams = || self.snapshot.upstreams.iter();
        let mut rows = Vec::new();
        for one in upstreams() {
            let labels =
                |reason, mode| [("upstream", &*one.name), ("reason", reason), ("mode", mode)];
            for &(reason, sent, observed) in &one.retries.counts {
                rows.push((labels(reason, "enforce"), sent));
                if observed > 0 {
                    rows.push((labels(reason, "observe"), observed));
                }
            }
        }
        out.counters(
            "tidegate_retries",
            "Requests sent again, by what had failed; mode observe: those that would have been.",
            rows,
        );
        let rows = upstreams().flat_map(|one| {
            let (made, observed) = one.ejections;
            let labels = move |mode| [("upstream", &*one.name), ("mode", mode)];
            [(labels("enforce"), made), (labels("observe"), observed)]
        });
        let help = "Ejections of endpoints; mode observe: those that would have been.";
        out.counters("tidegate_ejections", help, rows);
        let rows = upstreams();
        let rows = rows.map(|one| ([("upstream", &*one.name)], one.retries.budget_remaining));
        out.gauges(
            "tidegate_retry_budget_remaining_ratio",
            "The share of the budget for sending again that is left.",
            rows,
        )
    }
}
