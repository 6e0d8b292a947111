//! Checks of `[shared]`.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

use super::Check;
use crate::config::plan::{Redis, Secret};
use crate::config::raw::{Raw, RawScope};

impl Check<'_> {
    /// Where the processes of a fleet meet, and whether they can.
    pub(super) fn shared(&mut self, raw: &Raw) -> Option<Redis> {
        let limits = raw.rate_limits.values();
        let shared = limits.filter(|limit| *limit.scope == RawScope::Shared);
        for limit in shared {
            let span = limit.scope.span();
            if raw.shared.is_none() && !self.was_lost(&["shared"]) {
                self.error_hint(
                    span,
                    "there is nothing that the processes could share a quota by",
                    "say where Redis or Valkey is: `[shared]` with `redis = \"redis://HOST\"`",
                );
            }
        }
        let shared = raw.shared.as_ref()?;
        let hint = "write `redis = \"redis://HOST:6379\"`";
        let secret = self.required(shared.redis.as_ref(), &shared.span(), "redis", hint)?;
        let url = self.any_secret(secret)?;
        match redis(url.expose()) {
            Ok(redis) => Some(redis),
            Err(why) => {
                // Not where it stands: its password would be printed with it.
                self.error_hint(
                    0..0,
                    format!("`redis` of [shared] is no URL of Redis: {why}"),
                    "write `redis://HOST:6379`, `rediss://…`, `unix:///PATH` or `redis-cluster://HOST:6379,HOST:6379`",
                );
                None
            }
        }
    }
}

fn redis(text: &str) -> Result<Redis, String> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let single = scheme.strip_suffix("-cluster");
    let cluster = single.is_some();
    let one = single.unwrap_or(scheme);
    let parts: Vec<&str> = if cluster {
        rest.split(',').collect()
    } else {
        vec![rest]
    };
    let (mut urls, mut places) = (Vec::new(), Vec::new());
    for part in parts {
        let url = format!("{one}://{part}");
        let info = url.as_str().into_connection_info();
        let info = info.map_err(|error| {
            error
                .detail()
                .map_or_else(|| error.to_string(), ToOwned::to_owned)
        })?;
        places.push(place(&info));
        urls.push(Secret::new(url));
    }
    let shown = format!("{scheme}://{}", places.join(","));
    Ok(Redis {
        urls,
        cluster,
        shown,
    })
}

/// Where it is, and which database.
fn place(info: &ConnectionInfo) -> String {
    let user = info.redis_settings().username();
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    match (info.addr(), info.redis_settings().db()) {
        (ConnectionAddr::Unix(path), 0) => path.display().to_string(),
        (ConnectionAddr::Unix(path), database) => format!("{}?db={database}", path.display()),
        (address, 0) => format!("{user}{address}"),
        (address, database) => format!("{user}{address}/{database}"),
    }
}
