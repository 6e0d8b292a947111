//! What every command that reads the admin API has in common: where to ask, and how to print.

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use http::header::{HeaderValue, InvalidHeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Admin, Client};
use super::table::{Style, plain};
use super::{USAGE, color, complain, print};

/// Where to ask, and how to print.
#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// Where the admin API is.
    #[arg(
        long,
        help = "Where the admin API is: http://HOST:PORT or unix:/path; TIDEGATE_TOKEN holds its token",
        value_name = "URL",
        env = "TIDEGATE_ADMIN",
        default_value = "http://127.0.0.1:9900"
    )]
    admin: Admin,
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
    /// Asks for `path` and prints the answer: as it is, or as `table` makes of it.
    pub(super) fn show<T: for<'a> Deserialize<'a>>(
        self,
        path: &'static str,
        table: impl FnOnce(&T, Style) -> String,
    ) -> ExitCode {
        let Ok(authorization) = authorization() else {
            complain("tidegate: TIDEGATE_TOKEN holds what no header can");
            return ExitCode::from(USAGE);
        };
        let client = Client::new(self.admin, authorization);
        let text = match self.output {
            Output::Table => client
                .get::<T>(path)
                .map(|(answer, _)| table(&answer, Style::new(color(&std::io::stdout())))),
            // Another version's answer is of use to a program, as long as it is JSON.
            Output::Json => client
                .get::<Value>(path)
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

/// What shows the token, if there is one.
fn authorization() -> Result<Option<HeaderValue>, InvalidHeaderValue> {
    let token = std::env::var_os("TIDEGATE_TOKEN").filter(|token| !token.is_empty());
    let Some(token) = token else { return Ok(None) };
    let bearer = [b"Bearer ", token.as_bytes()].concat();
    HeaderValue::try_from(bearer).map(Some)
}
