//! `/debug/pprof`: where the process spends its time and leaves its memory, as the tools of that name read it.

use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::problem::Problem;
use crate::clock::SystemClock;
use crate::observe::{heap, profile};

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
    /// The stacks as text, one in a line.
    Folded,
}

/// Why there is no profile, of either kind.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cpu(#[from] profile::Error),
    #[error(transparent)]
    Heap(#[from] heap::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Cpu(profile::Error::Busy) | Error::Heap(heap::Error::Busy) => {
                StatusCode::CONFLICT
            }
            Error::Cpu(profile::Error::Idle) | Error::Heap(heap::Error::Idle) => {
                StatusCode::NOT_FOUND
            }
            Error::Cpu(_) | Error::Heap(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

/// How long, and as what.
fn asked(asked: Result<Query<Asked>, QueryRejection>) -> Result<(Duration, Format), Problem> {
    let Query(Asked { seconds, format }) =
        asked.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let (usual, most) = SECONDS;
    let seconds = seconds.unwrap_or(usual);
    if seconds == 0 || seconds > most {
        let detail = format!("seconds must be from 1 to {most}.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok((Duration::from_secs(seconds), format))
}

pub(super) async fn cpu(query: Result<Query<Asked>, QueryRejection>) -> Result<Response, Problem> {
    let (time, format) = asked(query)?;
    let sampling = profile::begin().map_err(Error::from)?;
    pass(time).await;
    answer(format, move || {
        let profile = sampling.end()?;
        Ok(match format {
            Format::Pprof => profile.pprof()?,
            Format::Svg => profile.flamegraph()?.into_bytes(),
            Format::Folded => profile.folded()?.into_bytes(),
        })
    })
    .await
}

pub(super) async fn heap(query: Result<Query<Asked>, QueryRejection>) -> Result<Response, Problem> {
    let (time, format) = asked(query)?;
    let sampling = heap::begin().map_err(Error::from)?;
    pass(time).await;
    answer(format, move || {
        let profile = sampling.end()?;
        Ok(match format {
            Format::Pprof => profile.pprof()?,
            Format::Svg => profile.flamegraph()?.into_bytes(),
            Format::Folded => profile.folded()?.into_bytes(),
        })
    })
    .await
}

async fn pass(time: Duration) {
    let until = SystemClock.now().after(time);
    tokio::time::sleep_until(tokio::time::Instant::from_std(SystemClock.to_std(until))).await;
}

/// What `write` writes. Names take a while to find: nobody else may wait for that.
async fn answer(
    format: Format,
    write: impl FnOnce() -> Result<Vec<u8>, Error> + Send + 'static,
) -> Result<Response, Problem> {
    let bytes = match tokio::task::spawn_blocking(write).await {
        Ok(written) => written?,
        Err(error) => {
            let detail = format!("The profile could not be written: {error}.");
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        }
    };
    let kind = match format {
        Format::Pprof => "application/octet-stream",
        Format::Svg => "image/svg+xml",
        Format::Folded => "text/plain; charset=utf-8",
    };
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}
