//! Caches, in the API's words.

use crate::admin::{AdminState, api};
use crate::cache::Cache;
use crate::cache::disk::{EVENTS, View};
use crate::cache::view::Top;
use crate::model::CacheResult;

pub(in crate::admin) fn caches(state: &AdminState, limit: usize) -> api::Caches {
    let caches = state.caches.all();
    api::Caches {
        caches: caches.iter().map(|one| cache(one, limit)).collect(),
    }
}

fn cache(cache: &Cache, limit: usize) -> api::Cache {
    let view = cache.view();
    let (by_bytes, by_saved) = cache.top(limit);
    let results = CacheResult::ALL.into_iter().zip(view.results);
    api::Cache {
        hit_ratio: view.hit_ratio(),
        requests: results
            .map(|(result, count)| (result.as_str().to_owned(), count))
            .collect(),
        name: view.name,
        bytes: view.bytes,
        capacity: view.capacity,
        urls: view.urls,
        disk: view.disk.as_ref().map(disk),
        flights: view.flights,
        top_by_bytes: by_bytes.into_iter().map(url).collect(),
        top_by_saved_seconds: by_saved.into_iter().map(url).collect(),
    }
}

fn disk(view: &View) -> api::CacheDisk {
    let events = EVENTS.iter().zip(view.events);
    api::CacheDisk {
        state: view.state.as_str().to_owned(),
        bytes: view.bytes,
        capacity: view.capacity,
        responses: view.records,
        events: events
            .map(|(event, count)| ((*event).to_owned(), count))
            .collect(),
    }
}

fn url(top: Top) -> api::CachedUrl {
    api::CachedUrl {
        url: top.url,
        bytes: top.bytes,
        hits: top.hits,
        saved_seconds: top.saved,
    }
}
