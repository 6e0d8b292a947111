//! `[[notify]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawSecret, Spanned};

/// Who is told when an incident opens and when it is over: one of `webhook`, `exec` and `file`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawNotify {
    /// A URL that is sent one JSON object by POST, and again until it takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook: Option<Spanned<RawSecret>>,
    /// What the webhook's requests are signed with, as Standard Webhooks says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Spanned<RawSecret>>,
    /// CA certificates that the webhook's certificate is checked with. Without: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<Spanned<String>>,
    /// A program and its arguments; it reads the object from its standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exec: Option<Spanned<Vec<String>>>,
    /// A file that the object is appended to, as a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Spanned<String>>,
}
