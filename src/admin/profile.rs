//! `/debug/pprof`: where the process spends its time and leaves its memory, as the tools of that name read it.

use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::problem::Problem;
use crate::clock::SystemClock;
use crate::observe::heap;
use crate::observe::profile::{self, Error, Format, Profile};

/// How long is sampled unless told, and at most.
const SECONDS: (u64, u64) = (10, 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    seconds: Option<u64>,
    format: Option<Format>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Busy => StatusCode::CONFLICT,
            Error::Idle => StatusCode::NOT_FOUND,
            Error::Failed(_) | Error::Memory(_) | Error::Unreadable(_) | Error::Io(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
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
    Ok((
        Duration::from_secs(seconds),
        format.unwrap_or(Format::Pprof),
    ))
}

type Answer = Result<Response, Problem>;

pub(super) async fn cpu(query: Result<Query<Asked>, QueryRejection>) -> Answer {
    take(query, profile::begin, profile::Sampling::end).await
}

pub(super) async fn heap(query: Result<Query<Asked>, QueryRejection>) -> Answer {
    take(query, heap::begin, heap::Sampling::end).await
}

async fn take<S: Send + 'static>(
    query: Result<Query<Asked>, QueryRejection>,
    begin: fn() -> Result<S, Error>,
    end: fn(S) -> Result<Profile, Error>,
) -> Answer {
    let (time, format) = asked(query)?;
    let sampling = begin()?;
    let until = SystemClock.now().after(time);
    tokio::time::sleep_until(tokio::time::Instant::from_std(SystemClock.to_std(until))).await;
    // Names take a while to find: nobody else may wait for that.
    let written = tokio::task::spawn_blocking(move || end(sampling)?.write(format)).await;
    let bytes = written.map_err(|error| {
        let detail = format!("The profile could not be written: {error}.");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })??;
    Ok(([(header::CONTENT_TYPE, format.content_type())], bytes).into_response())
}
