//! Who is told of incidents.

use std::path::PathBuf;

use http::Uri;

use super::Secret;

/// `[[notify]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// A server.
    Webhook(Webhook),
    /// A program and its arguments; at least the program.
    Exec(Vec<String>),
    /// A file that lines are appended to.
    File(PathBuf),
}

/// A server that takes notices by POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where. Whoever knows it may post there: a secret but for its host.
    pub url: Uri,
    /// What requests are signed with; none: they are not.
    pub secret: Option<Secret>,
    /// What its certificate is checked with; none: the system's.
    pub ca: Option<PathBuf>,
}
