//! Checks of `[[notify]]`.

use super::Check;
use crate::config::plan::{Notify, Webhook};
use crate::config::raw::{RawNotify, RawSecret, Spanned};

/// Who may be told.
const MOST: usize = 16;

impl Check<'_> {
    pub(super) fn notify(&mut self, raw: &[Spanned<RawNotify>]) -> Vec<Notify> {
        if let Some(over) = raw.get(MOST) {
            let message = format!("there are more than {MOST} `notify` entries");
            self.error(over.span(), message);
        }
        raw.iter().filter_map(|one| self.notify_one(one)).collect()
    }

    fn notify_one(&mut self, raw: &Spanned<RawNotify>) -> Option<Notify> {
        let ways = [
            raw.webhook.is_some(),
            raw.exec.is_some(),
            raw.file.is_some(),
        ];
        let written = ways.into_iter().filter(|way| *way).count();
        let lost = ["webhook", "exec", "file"].iter();
        let lost = lost
            .filter(|key| self.was_dropped(&raw.span(), key))
            .count();
        if written + lost != 1 {
            self.error_hint(
                raw.span(),
                "`notify` needs one of `webhook`, `exec` and `file`",
                "write an entry for each, such as `webhook = \"https://alerts.example.com/tidegate\"`",
            );
            return None;
        }
        if raw.webhook.is_none() && lost == 0 {
            let others = raw.secret.as_ref().map(Spanned::span);
            if let Some(span) = others.or_else(|| raw.ca.as_ref().map(Spanned::span)) {
                self.error(span, "`secret` and `ca` belong to a `webhook`");
            }
        }
        if let Some(url) = &raw.webhook {
            return self.webhook(url, raw).map(Notify::Webhook);
        }
        if let Some(exec) = &raw.exec {
            if exec.first().is_none_or(String::is_empty) {
                let hint =
                    "name it and its arguments: `exec = [\"/usr/local/bin/page\", \"--now\"]`";
                self.error_hint(exec.span(), "`exec` names no program", hint);
            }
            return Some(Notify::Exec(exec.to_vec()));
        }
        let file = raw.file.as_ref()?;
        if file.is_empty() {
            self.error(file.span(), "`file` is empty");
        }
        Some(Notify::File(self.path(file)))
    }

    fn webhook(&mut self, raw: &Spanned<RawSecret>, whole: &RawNotify) -> Option<Webhook> {
        let secret = whole.secret.as_ref().map(|secret| self.secret(secret));
        let ca = self.ca(whole.ca.as_ref());
        let text = self.any_secret(raw)?;
        let url = super::telemetry::url(text.expose(), "/");
        if url.is_none() {
            // The text stays unsaid: it is a secret.
            self.error_hint(
                raw.span(),
                "`webhook` is not a URL to send to",
                "write it with `http://` or `https://` and without a user",
            );
        }
        Some(Webhook {
            url: url?,
            secret: match secret {
                Some(secret) => Some(secret?),
                None => None,
            },
            ca,
        })
    }
}
