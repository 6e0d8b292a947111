//! `tidegate demo`: a real proxy between built-in origins and clients, all on loopback, and the story of what happens
//! to them.
//!
//! Fifty ordinary clients go about a day that lasts minutes. Then, one after the other, things go wrong as they do in
//! life, and a narrator tells what Tidegate says and what the clients feel. The narrator knows nothing but what the
//! admin API answers to anybody; only the [`world::World`] knows the truth. Depends on the library as any user would.

mod clients;
mod origins;
mod plan;
mod story;
mod world;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

use self::world::World;
use super::client::Admin;
use super::run::log_to_stderr;
use super::{complain, fd_limit, print};
use crate::config::Source;
use crate::process::{self, Inherited, Stop};

/// What to show.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Tell this one only, again and again. Default: each in turn.
    #[arg(long, value_name = "NAME")]
    scenario: Option<Scenario>,
    /// Turn every policy off, to see the same without protection.
    #[arg(long)]
    off: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A client runs its reports while everybody else is at their busiest.
    BorrowedPeak,
    /// One of three endpoints becomes slow.
    SlowEndpoint,
    /// A job empties the cache again and again.
    CacheFlush,
    /// An upstream fails now and then, and an app tries again at once.
    RetryStorm,
}

pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    log_to_stderr(LevelFilter::WARN);
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("tidegate demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &DemoArgs) -> io::Result<ExitCode> {
    let origins = origins::listen()?;
    let proxy = free_address(8080)?;
    let admin = free_address(9900)?;
    let directory = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("tidegate.toml");
    std::fs::write(&file, plan::text(&origins, proxy, admin, args.off))?;
    let source = Source {
        file: Some(file),
        ..Source::default()
    };
    let limit = fd_limit();
    let plan = match source.load(limit) {
        Ok(plan) => plan,
        Err(mistakes) => {
            complain(&mistakes.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    let world = Arc::new(World::new());
    let inhabited = Arc::clone(&world);
    std::thread::Builder::new()
        .name("demo-world".to_owned())
        .spawn(move || inhabit(origins, proxy, &inhabited))?;
    let (_stop, stopped) = Stop::pair();
    let acts = !args.off;
    let ready = |admin: &str| {
        let _shown = print(&welcome(proxy, admin, args.off));
        let scenarios = args.scenario.map_or_else(
            || Scenario::value_variants().to_vec(),
            |scenario| vec![scenario],
        );
        if let Ok(admin) = format!("http://{admin}").parse::<Admin>() {
            let told = std::thread::Builder::new()
                .name("demo-story".to_owned())
                .spawn(move || story::tell(&world, admin, &scenarios, acts));
            if let Err(error) = told {
                complain(&format!("tidegate demo: nobody tells the story: {error}"));
            }
        }
    };
    let result = process::run(source, limit, plan, Inherited::default(), stopped, ready);
    std::fs::remove_dir_all(&directory)?;
    result.map_err(io::Error::other)?;
    Ok(ExitCode::SUCCESS)
}

fn welcome(proxy: SocketAddr, admin: &str, off: bool) -> String {
    let protected = if off {
        "every policy is off (--off): what you see is what a plain proxy does"
    } else {
        "every policy is on, with its defaults"
    };
    format!(
        "tidegate demo: {protected}\n  \
         dashboard  http://{admin}/\n  \
         proxy      http://{proxy}/   (try: curl -i http://{proxy}/catalog/item/7)\n  \
         ask it     tidegate diagnose --admin http://{admin}\n\
         Ctrl-C ends it.\n"
    )
}

/// A free port on loopback, `preferred` if it is free.
fn free_address(preferred: u16) -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", preferred))
        .or_else(|_taken| std::net::TcpListener::bind("127.0.0.1:0"))?
        .local_addr()
}

/// Runs origins and clients until the process ends.
fn inhabit(origins: Vec<origins::Endpoint>, proxy: SocketAddr, world: &Arc<World>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        origins::serve(origins, world);
        clients::start(proxy, world);
        std::future::pending::<()>().await;
    });
}
