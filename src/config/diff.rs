//! What changed between two plans, in words, and whether it takes a restart.
//!
//! Both plans are written out as `explain` does and compared value by value, so a new key is compared without
//! a line here. Depends on `explain` and `plan`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::explain;
use super::plan::Plan;

/// Every difference between two plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is: `server`, `admin`, `telemetry`, `clients`, `tiers`, or a client, listener, upstream or route with
    /// its name.
    pub subject: String,
    /// What it is.
    pub what: What,
    /// Whether it takes effect only with a restart.
    pub needs_restart: bool,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The subject is new.
    Added,
    /// The subject is gone.
    Removed,
    /// A value of the subject changed.
    Value {
        /// Its key, from the subject down.
        key: String,
        /// What it was; none: not given.
        from: Option<String>,
        /// What it is; none: not given.
        to: Option<String>,
    },
}

impl Changes {
    /// Each difference.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.0.iter()
    }

    /// Whether the plans are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The differences that take effect only with a restart.
    pub fn needing_restart(&self) -> impl Iterator<Item = &Change> {
        self.iter().filter(|change| change.needs_restart)
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        match &self.what {
            What::Added => f.write_str(" added"),
            What::Removed => f.write_str(" removed"),
            What::Value { key, from, to } => {
                let from = from.as_deref().unwrap_or("none");
                let to = to.as_deref().unwrap_or("none");
                write!(f, ": {key} {from} → {to}")
            }
        }
    }
}

/// Settings that take effect only with a restart: a table, and one of its keys or all of them.
const NEED_RESTART: [(&str, Option<&str>); 6] = [
    ("usage", None),
    ("server", Some("workers")),
    ("server", Some("max_connections")),
    ("server", Some("state_dir")),
    ("clients", Some("hash_key")),
    ("admin", None),
];

/// What is different in `new`. The content of certificate files is not part of a plan and not compared.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Changes {
    let mut changes = Vec::new();
    let (before, after) = (explain::to_json(old), explain::to_json(new));
    for table in ["server", "admin", "telemetry", "usage", "shared"] {
        compare(table, "", before.get(table), after.get(table), &mut changes);
    }
    let (old_notify, new_notify) = (before.get("notify"), after.get("notify"));
    compare("notify", "to", old_notify, new_notify, &mut changes);
    let hidden = || Some("<redacted>".to_owned());
    if let (Some(old), Some(new)) = (&old.admin.token, &new.admin.token)
        && old.expose() != new.expose()
    {
        changes.push(value("admin", "token", hidden(), hidden()));
    }
    // What is shown of both is compared above.
    let (store, newer) = (&old.usage.store, &new.usage.store);
    if store != newer && store.to_string() == newer.to_string() {
        changes.push(value("usage", "store", hidden(), hidden()));
    }
    if let (Some(old), Some(new)) = (&old.shared, &new.shared)
        && old != new
        && old.shown == new.shown
    {
        changes.push(value("shared", "redis", hidden(), hidden()));
    }
    let names = |plan: &Plan| Some(plan.tiers.join(", "));
    if old.tiers != new.tiers {
        changes.push(value("tiers", "names", names(old), names(new)));
    }
    for key in ["hash_key", "identify"] {
        let of = |plan: &Value| plan.get("clients")?.get(key).cloned();
        let (before, after) = (of(&before), of(&after));
        compare(
            "clients",
            key,
            before.as_ref(),
            after.as_ref(),
            &mut changes,
        );
    }
    for (table, word) in [
        ("/clients/known", "client"),
        ("/listen", "listener"),
        ("/upstreams", "upstream"),
        ("/rate_limits", "rate limit"),
        ("/cache", "cache"),
        ("/slos", "objective"),
        ("/actions", "action on"),
        ("/routes", "route"),
    ] {
        let (before, after) = (named(before.pointer(table)), named(after.pointer(table)));
        for (name, old) in &before {
            let subject = format!("{word} {name}");
            match after.get(name) {
                Some(new) => compare(&subject, "", Some(old), Some(new), &mut changes),
                None => changes.push(whole(subject, What::Removed)),
            }
        }
        for name in after.keys().filter(|name| !before.contains_key(*name)) {
            changes.push(whole(format!("{word} {name}"), What::Added));
        }
    }
    Changes(changes)
}

/// The entries of a table of tables, or of a list of tables that each have a name.
fn named(table: Option<&Value>) -> BTreeMap<&str, &Value> {
    match table {
        Some(Value::Object(entries)) => entries
            .iter()
            .map(|(key, one)| (key.as_str(), one))
            .collect(),
        Some(Value::Array(entries)) => entries
            .iter()
            .filter_map(|one| Some((one.get("name")?.as_str()?, one)))
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn compare(
    subject: &str,
    key: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    if old == new {
        return;
    }
    let empty = Map::new();
    let (Some(before), Some(after)) = (as_table(old, &empty), as_table(new, &empty)) else {
        changes.push(value(subject, key, old.map(shown), new.map(shown)));
        return;
    };
    if key.is_empty() || (old.is_some() && new.is_some()) {
        let added = after.keys().filter(|name| !before.contains_key(*name));
        for name in before.keys().chain(added) {
            let inner = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            compare(subject, &inner, before.get(name), after.get(name), changes);
        }
    } else {
        changes.push(value(subject, key, old.map(shown), new.map(shown)));
    }
}

fn as_table<'v>(
    value: Option<&'v Value>,
    empty: &'v Map<String, Value>,
) -> Option<&'v Map<String, Value>> {
    match value {
        None => Some(empty),
        Some(Value::Object(table)) => Some(table),
        Some(_) => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn whole(subject: String, what: What) -> Change {
    Change {
        subject,
        what,
        needs_restart: false,
    }
}

fn value(subject: &str, key: &str, from: Option<String>, to: Option<String>) -> Change {
    let needs_restart = NEED_RESTART
        .iter()
        .any(|(table, only)| *table == subject && only.is_none_or(|only| only == key));
    Change {
        subject: subject.to_owned(),
        what: What::Value {
            key: key.to_owned(),
            from,
            to,
        },
        needs_restart,
    }
}
