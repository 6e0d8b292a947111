//! `[shared]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawSecret, Spanned};

/// Where the processes of a fleet meet.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["redis"]))]
pub(crate) struct RawShared {
    /// Redis or Valkey, by which processes share the quotas with `scope = "shared"`: `redis://HOST:PORT/DATABASE`,
    /// `rediss://…` over TLS, `unix:///PATH`, and `redis-cluster://…` or `rediss-cluster://…` with one node or more,
    /// between commas. A URL with a password is a secret. Without a `hash_key` of `[clients]` the processes agree on one by
    /// this server as they start, and it is kept there.
    #[schemars(required)]
    pub(crate) redis: Option<Spanned<RawSecret>>,
}
