//! `tidegate cache`: shows the caches, or purges what they hold.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, counted, plain, share};
use crate::admin::api::{Cache, Caches, Purge, Purged};

/// What to do with the caches.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    query: QueryArgs,
}

/// A change of what the caches hold.
#[derive(Debug, Subcommand)]
enum Change {
    /// Drop stored responses.
    #[command(after_help = "Example:\n  tidegate cache purge --tag article-42 --soft")]
    Purge(PurgeArgs),
}

/// What to drop.
#[derive(Debug, Args)]
struct PurgeArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Make it stale only: as far as that is allowed it is used until it was fetched anew.
    #[arg(long)]
    soft: bool,
    /// The cache. Without: every cache.
    #[arg(long, value_name = "NAME")]
    cache: Option<String>,
    /// Why; it stands in the audit log.
    #[arg(long, value_name = "TEXT", default_value = "tidegate cache purge")]
    reason: String,
    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScopeArgs {
    /// One URL, as clients ask for it, with all its variants.
    #[arg(long)]
    url: Option<String>,
    /// Every URL that begins so.
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// Every response with this tag.
    #[arg(long)]
    tag: Option<String>,
}

pub(super) fn cache(args: CacheArgs) -> ExitCode {
    match args.change {
        None => args.query.show("/api/v1/cache", table),
        Some(Change::Purge(args)) => purge(args),
    }
}

fn purge(args: PurgeArgs) -> ExitCode {
    let purge = Purge {
        cache: args.cache,
        url: args.scope.url,
        prefix: args.scope.prefix,
        tag: args.scope.tag,
        soft: args.soft,
        reason: args.reason,
    };
    let what = if purge.soft { "made stale" } else { "purged" };
    let done =
        |done: &Purged, _style: Style| format!("{what}: {}", counted(done.purged as u64, "URL"));
    args.query.change("/api/v1/cache/purge", &purge, done)
}

fn table(answer: &Caches, style: Style) -> String {
    let headings = [
        "CACHE",
        "MEMORY",
        "DISK",
        "URLS",
        "HIT RATIO",
        "REQUESTS",
        "UNDER WAY",
    ];
    let mut table = Table::new(headings, 1);
    for cache in &answer.caches {
        table.row(row(cache));
    }
    let mut text = table.render(style);
    for cache in &answer.caches {
        for top in cache.top_by_saved_seconds.iter().filter(|top| top.hits > 0) {
            let (url, saved) = (plain(&top.url), top.saved_seconds);
            text.push_str(&format!("\n{url}: {} hits saved {saved:.1}s", top.hits));
        }
    }
    text
}

fn row(cache: &Cache) -> [Cell; 7] {
    const MEBI: u64 = 1 << 20;
    let of = |bytes: u64, capacity: u64| {
        let (bytes, capacity) = (bytes.div_ceil(MEBI), capacity / MEBI);
        format!("{bytes} of {capacity}MiB")
    };
    let disk = match &cache.disk {
        None => "-".to_owned(),
        Some(disk) if disk.state == "on" => of(disk.bytes, disk.capacity),
        Some(disk) => disk.state.clone(),
    };
    [
        cache.name.as_str().into(),
        of(cache.bytes, cache.capacity).into(),
        disk.into(),
        cache.urls.to_string().into(),
        share(cache.hit_ratio).into(),
        cache.requests.values().sum::<u64>().to_string().into(),
        cache.flights.to_string().into(),
    ]
}
