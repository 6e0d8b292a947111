//! From what was written to what it means: references, defaults, addresses, files.
//!
//! Every check reports and goes on, so that one run finds all mistakes; the plan is made only when there are
//! none. Reads the files a plan names, to see that they can be read. Depends on `raw` and `plan`.

mod action;
mod address;
mod cache;
mod clients;
mod listen;
mod notify;
mod protection;
mod rate_limit;
mod route;
mod shared;
mod slo;
mod telemetry;
mod upstream;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::Host;

use super::document::{Dropped, Finding};
use super::explain;
use super::plan::{Admin, Plan, Secret, Server, Usage, UsageStore};
use super::raw::{Raw, RawAdmin, RawSecret, RawServer, RawUsage, Spanned};
use super::units::Time;

/// The one version of the format.
const VERSION: i64 = 1;

/// Few enough connections to be of use to anyone.
const LEAST_CONNECTIONS: usize = 1024;

/// What resolving depends on besides the text.
pub(crate) struct Scene {
    /// The file the text came from.
    pub(crate) source: Option<PathBuf>,
    /// Where relative paths begin.
    pub(crate) directory: PathBuf,
    /// Entries already reported and taken out: their absence is not another mistake.
    pub(crate) dropped: Vec<Dropped>,
    /// The process's limit on open files.
    pub(crate) fd_limit: usize,
    /// Where the service manager lets it keep what outlives a restart, if it says so.
    pub(crate) state_directory: Option<PathBuf>,
    /// Cores of this machine.
    pub(crate) cores: usize,
}

/// The plan, if there is no mistake in `raw`, and every mistake there is.
pub(crate) fn resolve(raw: &Raw, scene: &Scene) -> (Option<Plan>, Vec<Finding>) {
    let mut check = Check {
        scene,
        findings: Vec::new(),
    };
    check.version(raw);
    let server = check.server(&raw.server);
    let listeners = check.listeners(&raw.listen);
    let admin = check.admin(&raw.admin);
    check.distinct_admin(&raw.admin, admin.as_ref(), &listeners);
    let tiers = check.tiers(&raw.tiers);
    let clients = check.clients(&raw.clients, &tiers, &listeners);
    let upstreams = check.upstreams(&raw.upstreams, tiers.len());
    let rate_limits = check.rate_limits(raw);
    let caches = check.caches(&raw.cache);
    let slos = check.slos(raw);
    let actions = check.actions(raw);
    let routes = check.routes(raw, &tiers);
    let usage = check.usage(raw.usage.as_ref());
    let shared = check.shared(raw);
    let mut telemetry = check.telemetry(&raw.telemetry);
    telemetry.exporters.notify = check.notify(&raw.notify);
    let findings = check.findings;
    let (true, Some(server), Some(admin)) = (findings.is_empty(), server, admin) else {
        return (None, findings);
    };
    let mut plan = Plan {
        source: scene.source.clone(),
        hash: String::new(),
        server,
        listeners,
        admin,
        clients,
        tiers,
        upstreams: upstreams.into_iter().map(Arc::new).collect(),
        rate_limits: rate_limits.into_iter().map(Arc::new).collect(),
        caches: caches.into_iter().map(Arc::new).collect(),
        slos: slos.into_iter().map(Arc::new).collect(),
        actions,
        routes: routes.into_iter().map(Arc::new).collect(),
        usage,
        shared,
        telemetry,
    };
    plan.hash = explain::hash(&plan);
    (Some(plan), findings)
}

/// The state of the checks: what was found so far.
struct Check<'a> {
    scene: &'a Scene,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.findings.push(Finding {
            span,
            message: message.into(),
            hint: None,
        });
    }

    fn error_hint(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.findings.push(Finding {
            span,
            message: message.into(),
            hint: Some(hint.into()),
        });
    }

    /// Whether `key` of the table at `table` was there, but could not be read.
    fn was_dropped(&self, table: &Range<usize>, key: &str) -> bool {
        let mut dropped = self.scene.dropped.iter();
        dropped.any(|one| one.table == *table && one.keys.last().is_some_and(|name| name == key))
    }

    /// Whether the entry at `path`, or one that it is in, was there, but could not be read.
    fn was_lost(&self, path: &[&str]) -> bool {
        let holds = |keys: &[String]| {
            keys.len() <= path.len() && keys.iter().zip(path).all(|(key, name)| key == name)
        };
        self.scene.dropped.iter().any(|one| holds(&one.keys))
    }

    /// Whether any entry of the top-level table `table` was lost whole.
    fn was_any_lost(&self, table: &str) -> bool {
        let mut dropped = self.scene.dropped.iter();
        dropped.any(|one| one.keys.len() <= 2 && one.keys.first().is_some_and(|key| key == table))
    }

    /// `value`, or a report that `key` of the table at `table` is missing.
    fn required<'v, T>(
        &mut self,
        value: Option<&'v Spanned<T>>,
        table: &Range<usize>,
        key: &str,
        hint: &str,
    ) -> Option<&'v Spanned<T>> {
        if value.is_none() && !self.was_dropped(table, key) {
            self.error_hint(table.clone(), format!("`{key}` is missing"), hint);
        }
        value
    }

    /// The inner value, or a report of why there is none.
    fn take<T, E: Display>(&mut self, span: Range<usize>, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(span, error.to_string());
                None
            }
        }
    }

    /// A duration that must be above zero.
    fn above_zero(&mut self, value: &Spanned<Time>, key: &str) -> Duration {
        if value.0.is_zero() {
            self.error(value.span(), format!("`{key}` must be above zero"));
        }
        value.0
    }

    /// A whole number inside `bounds`; the lower bound if it is not.
    fn whole<T: TryFrom<i64> + TryInto<i64> + Copy>(
        &mut self,
        value: &Spanned<i64>,
        key: &str,
        bounds: RangeInclusive<T>,
    ) -> T {
        let number = **value;
        let least = (*bounds.start()).try_into().unwrap_or(i64::MIN);
        let most = (*bounds.end()).try_into().unwrap_or(i64::MAX);
        if !(least..=most).contains(&number) {
            let message = if most == i64::MAX {
                format!("`{key}` must be at least {least}, not {number}")
            } else {
                format!("`{key}` must be from {least} to {most}, not {number}")
            };
            self.error(value.span(), message);
        }
        T::try_from(number).unwrap_or_else(|_| *bounds.start())
    }

    /// A name that labels, URLs and commands can carry.
    fn name(&mut self, name: &Spanned<String>) -> Arc<str> {
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\\');
        if name.is_empty() || name.len() > 100 || !name.chars().all(is_plain) {
            self.error_hint(
                name.span(),
                format!("`{}` is not a name", name.escape_debug()),
                "use up to 100 letters, digits and signs, without spaces, quotes and slashes",
            );
        }
        name.as_str().into()
    }

    /// A path of the file, from the file's directory.
    fn path(&self, path: &str) -> PathBuf {
        self.scene.directory.join(path)
    }

    /// The content of a file the configuration names, and its whole path.
    fn read_file(&mut self, path: &Spanned<String>) -> Option<(PathBuf, Vec<u8>)> {
        let whole = self.path(path);
        match std::fs::read(&whole) {
            Ok(content) => Some((whole, content)),
            Err(error) => {
                let message = format!("cannot read {}: {}", whole.display(), io_message(&error));
                self.error(path.span(), message);
                None
            }
        }
    }

    fn version(&mut self, raw: &Raw) {
        let hint = "begin the file with `version = 1`";
        match &raw.version {
            None if self.was_lost(&["version"]) => {}
            None => self.error_hint(0..0, "`version` is missing", hint),
            Some(version) if **version == VERSION => {}
            Some(version) => self.error_hint(
                version.span(),
                format!("version {} is not supported", **version),
                "this Tidegate reads version 1",
            ),
        }
    }

    fn server(&mut self, raw: &RawServer) -> Option<Server> {
        let workers = match self.whole(&raw.workers, "workers", 0..=1024_i32) {
            0 => self.scene.cores,
            workers => usize::try_from(workers).ok()?,
        };
        let bounds = 0..=i64::from(u32::MAX);
        let max_connections = match self.whole(&raw.max_connections, "max_connections", bounds) {
            0 => (self.scene.fd_limit / 20)
                .saturating_mul(9)
                .max(LEAST_CONNECTIONS),
            bound => usize::try_from(bound).ok()?,
        };
        Some(Server {
            workers: workers.max(1),
            drain_timeout: raw.drain_timeout.0,
            max_connections,
            overload: protection::mode(raw.overload),
            state_dir: self.state_dir(raw),
        })
    }

    fn state_dir(&mut self, raw: &RawServer) -> Option<PathBuf> {
        match &raw.state_dir {
            Some(given) if given.is_empty() => {
                self.error(
                    given.span(),
                    "`state_dir` is empty; leave it out for its default",
                );
                None
            }
            Some(given) => Some(self.path(given)),
            None => match &self.scene.state_directory {
                Some(given) => Some(given.clone()),
                None => self
                    .scene
                    .source
                    .as_ref()
                    .map(|_| self.path("tidegate-state")),
            },
        }
    }

    fn admin(&mut self, raw: &RawAdmin) -> Option<Admin> {
        let bind = self.take(raw.address.span(), address::bind(&raw.address));
        let token = raw.token.as_ref().map(|token| self.secret(token));
        let bind = bind?;
        let was_dropped = self.was_lost(&["admin", "token"]);
        if token.is_none() && !was_dropped && !address::is_private(&bind) {
            self.error_hint(
                raw.address.span(),
                format!(
                    "the admin API at {} would be open to the network",
                    *raw.address
                ),
                "give `[admin]` a `token`, or use a loopback address or unix socket",
            );
        }
        match token {
            Some(None) => None,
            token => Some(Admin {
                bind,
                token: token.flatten(),
            }),
        }
    }

    fn distinct_admin(
        &mut self,
        raw: &RawAdmin,
        admin: Option<&Admin>,
        listeners: &[super::plan::Listener],
    ) {
        let Some(admin) = admin else { return };
        if let Some(listener) = listeners.iter().find(|one| one.bind == admin.bind) {
            self.error(
                raw.address.span(),
                format!(
                    "listener `{}` already has the admin API's address",
                    listener.name
                ),
            );
        }
    }

    /// A token: a secret without blanks.
    fn secret(&mut self, raw: &Spanned<RawSecret>) -> Option<Secret> {
        let secret = self.header_secret(raw)?;
        if secret.expose().contains(' ') {
            self.error_hint(
                raw.span(),
                "the token has blanks in it",
                "use visible ASCII characters without spaces",
            );
            return None;
        }
        Some(secret)
    }

    /// A secret as it stands there.
    fn any_secret(&mut self, raw: &Spanned<RawSecret>) -> Option<Secret> {
        match &**raw {
            RawSecret::Literal(text) => Some(Secret::new(text.clone())),
            RawSecret::Env(name) => match std::env::var(name) {
                Ok(value) => Some(Secret::new(value)),
                Err(error) => {
                    self.error(raw.span(), format!("environment variable {name}: {error}"));
                    None
                }
            },
            RawSecret::File(path) => {
                let whole = self.path(path);
                match std::fs::read_to_string(&whole) {
                    Ok(text) => {
                        let text = text.trim_end_matches(['\r', '\n']).to_owned();
                        Some(Secret::from_file(text, whole))
                    }
                    Err(error) => {
                        let why = io_message(&error);
                        let message = format!("cannot read {}: {why}", whole.display());
                        self.error(raw.span(), message);
                        None
                    }
                }
            }
        }
    }

    /// A secret that a header can carry.
    fn header_secret(&mut self, raw: &Spanned<RawSecret>) -> Option<Secret> {
        let secret = self.any_secret(raw)?;
        let value = secret.expose();
        let is_visible = |c: char| c.is_ascii_graphic() || c == ' ';
        if value.is_empty() || !value.chars().all(is_visible) {
            self.error_hint(
                raw.span(),
                "the secret is empty or has characters that no header can carry",
                "use visible ASCII characters",
            );
            return None;
        }
        Some(secret)
    }

    fn usage(&mut self, raw: Option<&RawUsage>) -> Usage {
        let Some(raw) = raw else {
            return Usage::default();
        };
        let keep = self.above_zero(&raw.keep, "keep");
        let Some(secret) = self.any_secret(&raw.store) else {
            return Usage::default();
        };
        let store = match (secret.expose(), secret.expose().strip_prefix("sqlite:")) {
            ("memory", _) => return Usage::default(),
            (_, Some(path)) if !path.is_empty() => {
                let file = self.path(path);
                if !file.parent().is_some_and(Path::is_dir) {
                    let message = format!("the directory of {} does not exist", file.display());
                    self.error(raw.store.span(), message);
                }
                UsageStore::File(file)
            }
            (url, _) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                match shown(url) {
                    Ok(shown) => UsageStore::Postgres { url: secret, shown },
                    Err(why) => {
                        // Not where it stands: its password would be printed with it.
                        self.error(
                            0..0,
                            format!("`store` of [usage] is no URL of PostgreSQL: {why}"),
                        );
                        UsageStore::Memory
                    }
                }
            }
            _ => {
                self.error_hint(
                    0..0,
                    "`store` of [usage] is no place for a ledger",
                    "write \"sqlite:PATH\", \"postgres://USER@HOST/DATABASE\", or \"memory\" for a day that is gone with the process",
                );
                UsageStore::Memory
            }
        };
        Usage { store, keep }
    }
}

/// The URL of a database without its password and parameters.
fn shown(url: &str) -> Result<String, String> {
    let config: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let why = std::error::Error::source(&error);
        why.map_or_else(|| error.to_string(), ToString::to_string)
    })?;
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or_else(|| ports.first());
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        match host {
            Host::Tcp(name) => format!("{name}{port}"),
            Host::Unix(path) => format!("{}{port}", path.display()),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    if hosts.is_empty() {
        return Err("it names no host".to_owned());
    }
    let user = config.get_user().map(|user| format!("{user}@"));
    Ok(format!(
        "postgres://{}{}/{}",
        user.unwrap_or_default(),
        hosts.join(","),
        config.get_dbname().unwrap_or_default()
    ))
}

/// Reports every name of `names` that was given before.
fn report_duplicates<'n>(
    check: &mut Check<'_>,
    what: &str,
    names: impl IntoIterator<Item = (&'n str, Range<usize>)>,
) {
    let mut seen = BTreeMap::new();
    for (name, span) in names {
        if seen.insert(name, ()).is_some() {
            check.error(span, format!("there already is {what} `{name}`"));
        }
    }
}

/// What the system says, without its number.
pub(crate) fn io_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}
