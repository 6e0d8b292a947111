//! Who is told of incidents, written out again.

use super::{REDACTED, path as file_path};
use crate::config::plan::Notify;
use crate::config::raw::{RawNotify, RawSecret};

pub(super) fn notify(notify: &Notify) -> RawNotify {
    match notify {
        Notify::Webhook(webhook) => {
            let scheme = webhook.url.scheme_str().unwrap_or_default();
            let host = webhook.url.authority().map_or("", |host| host.as_str());
            // Whoever knows the path may post there.
            let path = if webhook.url.path() == "/" {
                ""
            } else {
                "redacted"
            };
            let hidden = || RawSecret::Literal(REDACTED.to_owned()).into();
            RawNotify {
                webhook: Some(RawSecret::Literal(format!("{scheme}://{host}/{path}")).into()),
                secret: webhook.secret.as_ref().map(|_| hidden()),
                ca: webhook.ca.as_deref().map(file_path),
                ..RawNotify::default()
            }
        }
        Notify::Exec(words) => RawNotify {
            exec: Some(words.clone().into()),
            ..RawNotify::default()
        },
        Notify::File(file) => RawNotify {
            file: Some(file_path(file)),
            ..RawNotify::default()
        },
    }
}
