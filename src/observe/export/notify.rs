//! Tells of incidents: a server, a program or a file, each from a queue of its own, so that none waits for another.
//!
//! A server is asked again until it takes a notice or refuses it for good, for a quarter of an hour; its requests are signed
//! as Standard Webhooks 1.0 says, and the same notice has the same id however often it is sent. A program runs once for
//! each notice, a file is appended to.

use std::fmt::Display;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::hmac;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::client::{Answer, Broken, Client};
use super::queue::Queue;
use super::retry::{Patience, Verdict, pause};
use crate::clock::SystemClock;
use crate::config::plan::{Notify, Webhook};

/// Notices that wait for one of them.
pub(super) const MAX_NOTICES: usize = 256;
/// A server is given up for a notice after so many failures in a row: after a quarter of an hour.
const MAX_FAILURES: u32 = 35;
/// How long a program may run.
const PROGRAM_TIME: Duration = Duration::from_secs(30);

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What is told.
#[derive(Debug)]
pub struct Notice {
    /// Distinct for each; visible ASCII.
    pub id: String,
    /// One JSON object, without line breaks.
    pub body: Bytes,
}

/// One who is told, at work.
enum Told {
    Webhook(Box<Client>, Option<hmac::Key>),
    Program(Vec<String>),
    File(PathBuf),
}

/// Tells `to` what comes, until nothing more will come.
pub(super) async fn run(to: Notify, queue: Arc<Queue<Arc<Notice>>>) {
    let mut told = Told::new(to);
    while let Some((notices, _)) = queue.take(1, Duration::ZERO).await {
        for notice in notices {
            let on_the_way = queue.counts().on_the_way(1);
            if told.insist(&notice).await {
                on_the_way.arrived();
            }
        }
    }
}

impl Told {
    fn new(to: Notify) -> Self {
        match to {
            Notify::Webhook(Webhook { url, secret, ca }) => {
                let client = Client::new(&url, ca.as_deref(), false);
                let key = secret.map(|secret| key(secret.expose()));
                Self::Webhook(Box::new(client), key)
            }
            Notify::Exec(words) => Self::Program(words),
            Notify::File(path) => Self::File(path),
        }
    }

    /// Tells of `notice`, again and again if need be; whether it was taken.
    async fn insist(&mut self, notice: &Notice) -> bool {
        let mut patience = Patience::new("notify");
        loop {
            match self.tell(notice).await {
                Verdict::Taken => {
                    patience.worked();
                    return true;
                }
                Verdict::Later(what, asked) if patience.failures() < MAX_FAILURES => {
                    pause(patience.failed(&what, asked)).await;
                }
                Verdict::Refused(what) | Verdict::Later(what, _) => {
                    tracing::error!(id = notice.id, "nobody was told of an incident: {what}");
                    return false;
                }
            }
        }
    }

    async fn tell(&mut self, notice: &Notice) -> Verdict {
        match self {
            Self::Webhook(client, key) => {
                let at = SystemClock.unix_micros() / 1_000_000;
                let headers = headers(notice, at, key.as_ref());
                judge(client.post_json(headers, notice.body.clone()).await)
            }
            Self::Program(words) => once(execute(words, &notice.body).await),
            Self::File(path) => {
                let (path, body) = (path.clone(), notice.body.clone());
                let written = tokio::task::spawn_blocking(move || append(&path, &body)).await;
                match written {
                    Ok(written) => once(written),
                    Err(error) => Verdict::Refused(error.to_string()),
                }
            }
        }
    }
}

fn once<E: Display>(done: Result<(), E>) -> Verdict {
    match done {
        Ok(()) => Verdict::Taken,
        Err(error) => Verdict::Refused(error.to_string()),
    }
}

/// The key that `secret` is: Base64 after `whsec_`, else its bytes.
fn key(secret: &str) -> hmac::Key {
    let coded = secret.strip_prefix("whsec_");
    let bytes = coded.and_then(|text| STANDARD.decode(text).ok());
    let bytes = bytes.unwrap_or_else(|| secret.as_bytes().to_vec());
    hmac::Key::new(hmac::HMAC_SHA256, &bytes)
}

/// What says which notice it is, when it was sent, and, where there is a key, that it is ours.
fn headers(notice: &Notice, at: u64, key: Option<&hmac::Key>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(ID, &notice.id);
    set(TIMESTAMP, &at.to_string());
    if let Some(key) = key {
        let mut signed = format!("{}.{at}.", notice.id).into_bytes();
        signed.extend_from_slice(&notice.body);
        let tag = STANDARD.encode(hmac::sign(key, &signed));
        set(SIGNATURE, &format!("v1,{tag}"));
    }
    headers
}

fn judge(answer: Result<Answer, Broken>) -> Verdict {
    match answer {
        Err(broken) => Verdict::Later(broken.to_string(), None),
        Ok(answer) if answer.status.is_success() => Verdict::Taken,
        Ok(answer) => {
            let what = format!("the webhook answered {}", answer.status);
            let busy = [
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ];
            if answer.status.is_server_error() || busy.contains(&answer.status) {
                Verdict::Later(what, answer.retry_after())
            } else {
                Verdict::Refused(what)
            }
        }
    }
}

/// Why a program was of no use.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("{0}: {1}")]
    Io(String, #[source] std::io::Error),
    #[error("{0} ended with {1}")]
    Status(String, std::process::ExitStatus),
    #[error("{0} ran for longer than {PROGRAM_TIME:?} and was ended")]
    Slow(String),
}

async fn execute(words: &[String], body: &[u8]) -> Result<(), Useless> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let failed = |error| Useless::Io(program.clone(), error);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let input = child.stdin.take();
    let run = async {
        if let Some(mut input) = input {
            // A program that does not care to read has still been told.
            let _unread = input.write_all(body).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(PROGRAM_TIME, run).await {
        Err(_elapsed) => Err(Useless::Slow(program.clone())),
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Useless::Status(program.clone(), status)),
    }
}

/// Appends one line, whole.
fn append(path: &Path, body: &[u8]) -> Result<(), Useless> {
    let failed = |error| Useless::Io(path.display().to_string(), error);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(&[body, b"\n"].concat()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_signed_as_the_standard_says() {
        // The example of Standard Webhooks 1.0.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let notice = Notice {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            body: Bytes::from_static(b"{\"test\": 2432232314}"),
        };
        let headers = headers(&notice, 1_614_265_330, Some(&key));
        assert_eq!(headers[ID], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers[TIMESTAMP], "1614265330");
        assert_eq!(
            headers[SIGNATURE],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[tokio::test]
    async fn a_program_reads_the_notice_and_its_failure_is_told() {
        let script = |text: &str| ["sh", "-c", text].map(str::to_owned);
        let reads = script("test \"$(cat)\" = notice");
        assert!(execute(&reads, b"notice").await.is_ok());
        let failed = execute(&script("exit 3"), b"notice").await.unwrap_err();
        assert_eq!(failed.to_string(), "sh ended with exit status: 3");
        let missing = ["/no/such/program".to_owned()];
        assert!(execute(&missing, b"").await.is_err());
    }
}
