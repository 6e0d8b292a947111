//! What every command that asks the admin API has in common: where to ask, and how to print.

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::header::{HeaderValue, InvalidHeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Admin, Client, Error};
use super::table::{Style, plain};
use super::{USAGE, color, complain, print};

/// Where to ask.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// Where the admin API is.
    #[arg(
        long,
        help = "Where the admin API is: http://HOST:PORT or unix:/path; TIDEGATE_TOKEN holds its token",
        value_name = "URL",
        env = "TIDEGATE_ADMIN",
        default_value = "http://127.0.0.1:9900"
    )]
    admin: Admin,
}

impl AdminArgs {
    /// Who asks there.
    ///
    /// # Errors
    /// When the token is none that a header can hold.
    pub(super) fn client(self) -> Result<Client, InvalidHeaderValue> {
        Ok(Client::new(self.admin, authorization()?))
    }
}

/// Where to ask, and how to print.
#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// A form of output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people: at most 80 columns.
    Table,
    /// For programs: what the API answers, unchanged.
    Json,
}

impl QueryArgs {
    /// Prints `answer` as if the API had given it.
    pub(super) fn tell<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T, Style) -> String,
    ) -> ExitCode {
        match self.output {
            Output::Table => print(&table(answer, Style::new(color(&std::io::stdout())))),
            Output::Json => print(&serde_json::to_string(answer).unwrap_or_default()),
        }
    }

    /// Asks for `path` and prints the answer: as it is, or as `table` makes of it.
    pub(super) fn show<T: for<'a> Deserialize<'a>>(
        self,
        path: &str,
        table: impl FnOnce(&T, Style) -> String,
    ) -> ExitCode {
        self.call(path, &Change::None, table)
    }

    /// Asks for the change that `body` describes at `path`, and prints the answer likewise.
    pub(super) fn change<T: for<'a> Deserialize<'a>>(
        self,
        path: &str,
        body: &impl Serialize,
        table: impl FnOnce(&T, Style) -> String,
    ) -> ExitCode {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.call(path, &Change::Post(body), table)
    }

    /// Asks for what is at `path` to be gone, and prints the answer likewise.
    pub(super) fn delete<T: for<'a> Deserialize<'a>>(
        self,
        path: &str,
        table: impl FnOnce(&T, Style) -> String,
    ) -> ExitCode {
        self.call(path, &Change::Delete, table)
    }

    fn call<T: for<'a> Deserialize<'a>>(
        self,
        path: &str,
        change: &Change,
        table: impl FnOnce(&T, Style) -> String,
    ) -> ExitCode {
        let Ok(client) = self.admin.client() else {
            complain("tidegate: TIDEGATE_TOKEN holds what no header can");
            return ExitCode::from(USAGE);
        };
        let text = match self.output {
            Output::Table => ask::<T>(&client, path, change)
                .map(|(answer, _)| table(&answer, Style::new(color(&std::io::stdout())))),
            // Another version's answer is of use to a program, as long as it is JSON.
            Output::Json => ask::<Value>(&client, path, change)
                .map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()),
        };
        match text {
            Ok(text) => print(&text),
            Err(error) => {
                complain(&format!("tidegate: {}", plain(&error.to_string())));
                ExitCode::FAILURE
            }
        }
    }
}

/// What is asked of a path beyond what is there.
enum Change {
    None,
    Post(Vec<u8>),
    Delete,
}

/// Asks `admin` for `path`.
///
/// # Errors
/// With the exit status, after it was said why there is no answer.
pub(super) fn fetch<T: for<'a> Deserialize<'a>>(
    admin: Admin,
    path: &str,
) -> Result<(T, Bytes), ExitCode> {
    let Ok(authorization) = authorization() else {
        complain("tidegate: TIDEGATE_TOKEN holds what no header can");
        return Err(ExitCode::from(USAGE));
    };
    let answer = Client::new(admin, authorization).get(path);
    answer.map_err(|error| {
        complain(&format!("tidegate: {}", plain(&error.to_string())));
        ExitCode::FAILURE
    })
}

fn ask<T: for<'a> Deserialize<'a>>(
    client: &Client,
    path: &str,
    change: &Change,
) -> Result<(T, Bytes), Error> {
    match change {
        Change::None => client.get(path),
        Change::Post(body) => client.post(path, body.clone()),
        Change::Delete => client.delete(path),
    }
}

/// What shows the token, if there is one.
fn authorization() -> Result<Option<HeaderValue>, InvalidHeaderValue> {
    let token = std::env::var_os("TIDEGATE_TOKEN").filter(|token| !token.is_empty());
    let Some(token) = token else { return Ok(None) };
    let bearer = [b"Bearer ", token.as_bytes()].concat();
    HeaderValue::try_from(bearer).map(Some)
}
