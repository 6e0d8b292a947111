//! `[cache.NAME]`, written out again.

use std::sync::Arc;

use crate::config::plan::Cache;
use crate::config::raw::{
    RawCache, RawCacheCookies, RawCacheDisk, RawCacheKey, RawClientControl, Spanned,
};
use crate::config::units::{Ratio, Size, Time};

pub(super) fn cache(cache: &Cache) -> RawCache {
    let texts = |names: &[Arc<str>]| -> Vec<Spanned<String>> {
        names.iter().map(|name| name.to_string().into()).collect()
    };
    let fields = |names: &[http::HeaderName]| -> Vec<Spanned<String>> {
        names.iter().map(|name| name.to_string().into()).collect()
    };
    RawCache {
        memory: Size(cache.memory).into(),
        disk: cache.disk.as_ref().map(|disk| RawCacheDisk {
            path: disk.path.display().to_string().into(),
            size: Size(disk.size).into(),
        }),
        max_object: Some(Size(cache.max_object).into()),
        default_ttl: Time::secs(cache.default_ttl.into()).into(),
        not_found_ttl: Time::secs(cache.not_found_ttl.into()).into(),
        stale_if_unhealthy: Time(cache.stale_if_unhealthy),
        tag_header: cache.tag_header.to_string().into(),
        cookies: if cache.strict_cookies {
            RawCacheCookies::Strict
        } else {
            RawCacheCookies::Origin
        },
        client_control: if cache.obeys_clients {
            RawClientControl::Obey
        } else {
            RawClientControl::Ignore
        },
        targeted: fields(&cache.targeted),
        key: RawCacheKey {
            ignore_query: texts(&cache.key.ignore_query),
            fields: fields(&cache.key.headers),
            cookie_names: texts(&cache.key.cookies),
        },
        coalesce_wait: Time(cache.coalesce_wait),
        max_client_share: Ratio(cache.max_client_share),
    }
}
