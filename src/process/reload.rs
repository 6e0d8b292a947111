//! Reload: a new plan is taken whole, or the old one stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::parts::{known, states};
use super::{Inherited, Process};
use crate::clients::Registry;
use crate::clock::SystemClock;
use crate::config::{diff, watch};
use crate::proxy::live::{Connectors, Live};

impl Process {
    /// Loads the configuration again: takes it whole, or keeps the old one.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        let result = self.try_reload();
        let detail = match &result {
            Ok(hash) => json!({ "taken": true, "hash": hash }),
            Err(error) => json!({ "taken": false, "error": error }),
        };
        self.events.tell("reload", "configuration", detail);
        match &result {
            Ok(hash) => tracing::info!(%hash, "configuration reloaded"),
            Err(error) => tracing::error!("configuration not reloaded, the old one stays: {error}"),
        }
        self.status.reloaded(
            SystemClock,
            result.as_ref().map(|_| ()).map_err(Clone::clone),
        );
        result
    }

    fn try_reload(&mut self) -> Result<String, String> {
        let mut plan = self
            .source
            .load(self.fd_limit)
            .map_err(|error| error.to_string())?;
        let old = self.plan.load_full();
        let changes = diff::diff(&old, &plan);
        for change in &changes {
            let restart = if change.needs_restart {
                " (needs a restart)"
            } else {
                ""
            };
            tracing::info!("configuration: {change}{restart}");
        }
        // What only a restart can change stays as it is.
        plan.server.workers = old.server.workers;
        plan.server.max_connections = old.server.max_connections;
        plan.server.state_dir.clone_from(&old.server.state_dir);
        plan.admin = old.admin.clone();
        plan.clients.hash_key.clone_from(&old.clients.hash_key);
        let plan = Arc::new(plan);
        let connectors = Connectors::load(&plan).map_err(|error| error.to_string())?;
        let opened = self
            .open(&plan, &mut Inherited::default())
            .map_err(|error| error.to_string())?;
        let former = self.shared.live.load();
        let hasher = Arc::clone(former.clients.hasher());
        let clients = Registry::load(&plan.clients, hasher, Some(&former.clients))
            .map_err(|error| error.to_string())?;
        drop(former);
        // Nothing fails from here on, and nothing that runs has been touched before.
        let states = states(
            &plan,
            &self.directories,
            &self.upstreams,
            &self.routes,
            &self.limits,
            &self.caches,
        );
        let clients = Arc::new(clients);
        let live = Live::new(
            Arc::clone(&plan),
            &connectors,
            &states,
            clients,
            &self.directories,
        );
        self.shared
            .overload
            .update(plan.server.overload, plan.tiers.len());
        self.shared.live.store(Arc::new(live));
        self.shared.generation.fetch_add(1, Ordering::Release);
        let gone: Vec<Arc<str>> = self
            .listeners
            .keys()
            .filter(|name| {
                !plan
                    .listeners
                    .iter()
                    .any(|listener| listener.name == **name)
            })
            .cloned()
            .collect();
        for name in &gone {
            self.close(name);
        }
        self.adopt(opened);
        self.collector.apply(&plan.telemetry);
        self.promises.follow(&plan, &self.directories);
        self.collector.metrics().set_known_clients(known(&plan));
        self.discovery.reconcile(&self.upstreams);
        self.changed.notify_one();
        if let Some(watch) = &self.watch {
            watch.set_files(watch::files(&plan));
        }
        let hash = plan.hash.clone();
        self.plan.store(plan);
        Ok(hash)
    }
}
