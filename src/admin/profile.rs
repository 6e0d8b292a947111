//! `/debug/pprof`: where the process spends its time, as the tools of that name read it.

use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::problem::Problem;
use crate::clock::SystemClock;
use crate::observe::profile::{self, Error, Sampling};

/// How long is sampled unless told, and at most.
const SECONDS: (u64, u64) = (10, 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    seconds: Option<u64>,
    #[serde(default)]
    format: Format,
}

/// What is answered.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// What `go tool pprof` reads.
    #[default]
    Pprof,
    /// A flamegraph.
    Svg,
}

pub(super) async fn cpu(asked: Result<Query<Asked>, QueryRejection>) -> Result<Response, Problem> {
    let Query(Asked { seconds, format }) =
        asked.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let (usual, most) = SECONDS;
    let seconds = seconds.unwrap_or(usual);
    if seconds == 0 || seconds > most {
        let detail = format!("seconds must be from 1 to {most}.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let sampling = profile::begin().map_err(|error| problem(&error))?;
    let until = SystemClock.now().after(Duration::from_secs(seconds));
    tokio::time::sleep_until(tokio::time::Instant::from_std(SystemClock.to_std(until))).await;
    // Names take a while to find: nobody else may wait for that.
    let written = tokio::task::spawn_blocking(move || write(sampling, format)).await;
    let (kind, bytes) = match written {
        Ok(Ok(written)) => written,
        Ok(Err(error)) => return Err(problem(&error)),
        Err(error) => {
            let detail = format!("The profile could not be written: {error}.");
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        }
    };
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

fn write(sampling: Sampling, format: Format) -> Result<(&'static str, Vec<u8>), Error> {
    let profile = sampling.end()?;
    match format {
        Format::Pprof => Ok(("application/octet-stream", profile.pprof()?)),
        Format::Svg => Ok(("image/svg+xml", profile.flamegraph()?.into_bytes())),
    }
}

fn problem(error: &Error) -> Problem {
    let status = match error {
        Error::Busy => StatusCode::CONFLICT,
        Error::Idle => StatusCode::NOT_FOUND,
        Error::Failed(_) | Error::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(status, error.to_string())
}

pub(super) async fn heap() -> Problem {
    Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "The allocator in this build keeps no profile. tidegate status and process_resident_memory_bytes tell how much \
         there is; heaptrack or valgrind --tool=massif, started with the process, tell whose it is.",
    )
}
