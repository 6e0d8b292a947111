//! Checks of `[cache.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Check, address};
use crate::config::diagnostic::suggest;
use crate::config::plan::{Cache, CacheDisk, CacheKey};
use crate::config::raw::{
    Raw, RawCache, RawCacheCookies, RawCacheKey, RawClientControl, RawRoute, Spanned,
};
use crate::config::units::Time;

/// The least memory and disk that are worth it.
const LEAST_MEMORY: u64 = 1 << 20;
const LEAST_DISK: u64 = 16 << 20;

/// The largest body that is kept where nothing is said of it, and there is room.
const MAX_OBJECT: u64 = 32 << 20;

impl Check<'_> {
    pub(super) fn caches(
        &mut self,
        raw: &BTreeMap<Spanned<String>, Spanned<RawCache>>,
    ) -> Vec<Cache> {
        let checked = raw.iter().map(|(name, cache)| self.cache(name, cache));
        let caches: Vec<Cache> = checked.collect::<Vec<_>>().into_iter().flatten().collect();
        let mut paths = BTreeSet::new();
        for disk in raw.values().filter_map(|cache| cache.disk.as_ref()) {
            if !paths.insert(self.path(&disk.path)) {
                let message = "two caches cannot share a directory";
                self.error(disk.path.span(), message);
            }
        }
        caches
    }

    fn cache_disk(&mut self, raw: &RawCache, max_object: u64) -> Option<CacheDisk> {
        let disk = raw.disk.as_ref()?;
        let size = disk.size.0;
        if disk.path.is_empty() {
            self.error(disk.path.span(), "`path` must name a directory");
        }
        if size < LEAST_DISK || size / 4 < max_object {
            self.error_hint(
                disk.size.span(),
                "`size` must be at least 16MiB, and four times `max_object`",
                "room is made by deleting what was stored first, a part at a time",
            );
        }
        Some(CacheDisk {
            path: self.path(&disk.path),
            size,
        })
    }

    fn cache(&mut self, name: &Spanned<String>, raw: &RawCache) -> Option<Cache> {
        let memory = raw.memory.0;
        let disk = raw.disk.as_ref().map_or(u64::MAX, |disk| disk.size.0);
        let given = raw.max_object.as_ref();
        let max_object = given.map_or_else(|| MAX_OBJECT.min(memory.min(disk) / 4), |it| it.0);
        if memory < LEAST_MEMORY {
            self.error(raw.memory.span(), "`memory` must be at least 1MiB");
        } else if let Some(given) = given
            && (max_object == 0 || max_object > memory / 4)
        {
            self.error_hint(
                given.span(),
                "`max_object` must be above zero and at most a quarter of `memory`",
                "a larger one would push out everything else",
            );
        }
        let tag_header = self.take(raw.tag_header.span(), address::header_name(&raw.tag_header));
        let targeted = raw.targeted.iter();
        let targeted = targeted
            .filter_map(|name| self.take(name.span(), address::header_name(name)))
            .collect();
        Some(Cache {
            name: self.name(name),
            memory,
            disk: self.cache_disk(raw, max_object),
            max_object,
            default_ttl: self.seconds(&raw.default_ttl, "default_ttl"),
            not_found_ttl: self.seconds(&raw.not_found_ttl, "not_found_ttl"),
            stale_if_unhealthy: raw.stale_if_unhealthy.0,
            strict_cookies: matches!(raw.cookies, RawCacheCookies::Strict),
            obeys_clients: matches!(raw.client_control, RawClientControl::Obey),
            targeted,
            key: self.cache_key(&raw.key),
            coalesce_wait: raw.coalesce_wait.0,
            max_client_share: raw.max_client_share.0,
            tag_header: tag_header?,
        })
    }

    /// Lifetimes are counted in whole seconds.
    fn seconds(&mut self, time: &Spanned<Time>, key: &str) -> u32 {
        if time.0.subsec_nanos() != 0 {
            self.error(time.span(), format!("`{key}` must be in whole seconds"));
        }
        u32::try_from(time.0.as_secs()).unwrap_or(u32::MAX)
    }

    fn cache_key(&mut self, raw: &RawCacheKey) -> CacheKey {
        let headers = raw.fields.iter();
        let headers = headers
            .filter_map(|name| self.take(name.span(), address::header_name(name)))
            .collect();
        let names = |names: &[Spanned<String>]| -> Vec<Arc<str>> {
            names.iter().map(|name| name.as_str().into()).collect()
        };
        CacheKey {
            ignore_query: names(&raw.ignore_query),
            headers,
            cookies: names(&raw.cookie_names),
        }
    }

    /// The position of the cache that a route names.
    pub(super) fn cache_of(&mut self, route: &RawRoute, whole: &Raw) -> Option<usize> {
        let name = route.cache.as_ref()?;
        let found = whole.cache.keys().position(|known| **known == **name);
        if found.is_none() && !self.was_lost(&["cache", name]) {
            let known: Vec<&str> = whole.cache.keys().map(|key| key.as_str()).collect();
            self.error_hint(
                name.span(),
                format!("there is no cache `{}`", name.escape_debug()),
                suggest(name, &known).hint,
            );
        }
        found
    }
}
