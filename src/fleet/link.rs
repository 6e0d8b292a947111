//! The connection to the server, and what is said over it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Script, Value,
};

use super::Identity;
use crate::clock::Instant;
use crate::config::plan::Redis;
use crate::engine::rate::{Limit, Moment, Report};

/// How long the server may take to answer, and to be connected to.
const PATIENCE: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_secs(1);
/// How often a process says that it is there.
const BEAT: Duration = Duration::from_secs(1);
/// Keys told at once: the server does nothing else meanwhile.
const AT_ONCE: usize = 500;

/// Where the key is that clients are hashed with.
const KEY: &str = "tidegate:hash-key";

/// The key that is there; `own`, if none was.
pub(super) async fn common_key(place: &Redis, own: &[u8]) -> RedisResult<Vec<u8>> {
    agreed(&mut Server::connect(place).await?, own).await
}

async fn agreed(server: &mut Server, own: &[u8]) -> RedisResult<Vec<u8>> {
    let mut put = redis::cmd("SET");
    put.arg(KEY).arg(own).arg("NX");
    put.query_async::<()>(server).await?;
    redis::cmd("GET").arg(KEY).query_async(server).await
}

/// An open connection.
pub(super) struct Link {
    to: Redis,
    identity: Identity,
    server: Server,
    quota: Script,
    member: Script,
    said: Option<Instant>,
    /// Whether the key that is there was its own when it was looked at last.
    agrees: bool,
}

impl Link {
    pub(super) async fn open(to: Redis, identity: Identity) -> RedisResult<Self> {
        Ok(Self {
            server: Server::connect(&to).await?,
            to,
            identity,
            quota: Script::new(include_str!("quota.lua")),
            member: Script::new(include_str!("member.lua")),
            said: None,
            agrees: true,
        })
    }

    pub(super) fn is_to(&self, place: &Redis) -> bool {
        self.to == *place
    }

    /// Says that the process is there, when it is time to; how many are.
    pub(super) async fn count(&mut self, now: Instant) -> RedisResult<Option<u32>> {
        if self.said.is_some_and(|said| now.since(said) < BEAT) {
            return Ok(None);
        }
        let key = self.members();
        let mut said = self.member.key(key);
        said.arg(self.identity.own);
        let count = said.invoke_async(&mut self.server).await?;
        if let Some(key) = &self.identity.key {
            // The server may have lost it, and another process been there first.
            let agrees = agreed(&mut self.server, key).await? == *key;
            if self.agrees && !agrees {
                tracing::error!(
                    "others have agreed on another key since this process began, and count its clients apart: start it again"
                );
            }
            self.agrees = agrees;
        }
        self.said = Some(now);
        Ok(Some(count))
    }

    /// Says that the process goes.
    pub(super) async fn leave(&mut self) -> RedisResult<()> {
        let key = self.members();
        let mut said = self.member.key(key);
        said.arg(self.identity.own).arg("goes");
        said.invoke_async(&mut self.server).await
    }

    fn members(&self) -> String {
        format!("tidegate:{:016x}:members", self.identity.common)
    }

    /// Tells what was used of `limit`, and learns what all have used.
    pub(super) async fn share(
        &mut self,
        limit: &Arc<Limit>,
        now: impl Fn() -> Moment,
    ) -> RedisResult<()> {
        let mut reports = limit.report(now());
        while !reports.is_empty() {
            let rest = reports.split_off(reports.len().min(AT_ONCE));
            match self.tell(limit, &reports, now()).await {
                Ok(all) => {
                    for (report, used) in reports.iter().zip(all) {
                        limit.learn(report.key, now(), used);
                    }
                }
                Err(error) => {
                    limit.unreported(&reports);
                    limit.unreported(&rest);
                    return Err(error);
                }
            }
            reports = rest;
        }
        Ok(())
    }

    /// Tells `reports`; what all have used of each of its keys.
    async fn tell(
        &mut self,
        limit: &Limit,
        reports: &[Report],
        now: Moment,
    ) -> RedisResult<Vec<u64>> {
        let quota = &limit.settings().quota;
        let (keep, scale) = if quota.is_calendar() {
            (2_000 * quota.period().seconds(), 1.0)
        } else {
            (0, 1e3)
        };
        // The braces keep all keys of a quota on one node of a cluster.
        let of = format!(
            "tidegate:{:016x}:{{{} {}}}:{}",
            self.identity.common,
            limit.name(),
            limit.shape(),
            quota.period_at(now)
        );
        let mut told = self.quota.prepare_invoke();
        told.arg(keep);
        for report in reports {
            told.key(format!("{of}:{:016x}", report.key));
            told.arg(report.change as f64 / scale);
            told.arg(report.used as f64 / scale);
        }
        told.invoke_async(&mut self.server).await
    }
}

/// One server, or a cluster of them.
enum Server {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Server {
    async fn connect(to: &Redis) -> RedisResult<Self> {
        let mut urls = to.urls.iter().map(|url| url.expose());
        if to.cluster {
            let nodes = ClusterClientBuilder::new(urls)
                .connection_timeout(CONNECT)
                .response_timeout(PATIENCE)
                .retries(1)
                .build()?;
            return Ok(Self::Cluster(nodes.get_async_connection().await?));
        }
        let url = urls.next().unwrap_or_default();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(url)?;
        let one = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Self::One(one))
    }
}

impl ConnectionLike for Server {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(nodes) => nodes.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(cmd, offset, count),
            Self::Cluster(nodes) => nodes.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(nodes) => nodes.get_db(),
        }
    }
}
