//! The response cache through the running proxy.

mod crowd;
mod disk;
mod pages;
mod purge;
mod rules;
mod safety;
mod trouble;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::client::{Client, Response};
use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::Proxy;
use crate::support::reply::Reply;

/// A proxy with a cache in front of an origin that is told per path how it answers each request in turn.
struct Scene {
    proxy: Proxy,
    origin: Origin,
    client: Client,
}

/// A header field.
type Field = (&'static str, &'static str);

/// How the origin answers once.
#[derive(Clone, Debug)]
struct Turn {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

/// 200 with these fields.
fn ok(fields: &[Field]) -> Turn {
    turn(200, fields, "")
}

/// An answer; without a body of its own, that tells its number.
fn turn(status: u16, fields: &[Field], body: &str) -> Turn {
    let fields = fields.iter();
    Turn {
        status,
        fields: fields
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

type Script = HashMap<String, (usize, Vec<Turn>)>;

impl Scene {
    /// The path `/N` answers by the Nth of `scripts`; the last turn is repeated.
    fn new(scripts: Vec<Vec<Turn>>, settings: &str) -> Self {
        let scripts = scripts.into_iter().enumerate();
        let scripts: Script = scripts
            .map(|(number, turns)| (format!("/{number}"), (0, turns)))
            .collect();
        let scripts = Arc::new(Mutex::new(scripts));
        let origin = Origin::http1(move |seen| answer(&scripts, seen));
        let proxy = proxy(&origin, settings);
        let client = proxy.client();
        Self {
            proxy,
            origin,
            client,
        }
    }

    fn get(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.client.request("GET", path, fields, b"")
    }

    /// What the origin saw of `path`.
    fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.origin.seen().into_iter();
        seen.filter(|seen| seen.path == path).collect()
    }
}

fn answer(scripts: &Mutex<Script>, seen: &Seen) -> Reply {
    let mut scripts = scripts.lock().expect("no test panics here");
    let path = seen.path.split('?').next().unwrap_or_default().to_owned();
    let Some((count, turns)) = scripts.get_mut(&path) else {
        return Reply::new(404);
    };
    let turn = &turns[(*count).min(turns.len() - 1)];
    *count += 1;
    let mut reply = Reply::new(turn.status);
    for (name, value) in &turn.fields {
        reply = reply.header(name, value);
    }
    let body = if turn.body.is_empty() {
        format!("answer {count}")
    } else {
        turn.body.clone()
    };
    if matches!(turn.status, 204 | 304) {
        reply
    } else {
        reply.body(body)
    }
}

fn proxy(origin: &Origin, settings: &str) -> Proxy {
    proxy_to(origin.address(), settings)
}

fn proxy_to(address: SocketAddr, settings: &str) -> Proxy {
    proxy_on("", address, settings)
}

/// A proxy whose listener has `listen` in its table.
fn proxy_on(listen: &str, address: SocketAddr, settings: &str) -> Proxy {
    Proxy::start(&format!(
        "[[listen]]\nname = \"public\"\naddress = \"<public>\"\n{listen}\n[upstreams.app]\nendpoints = [\"{address}\"]\nretry = {{ mode = \"off\" }}\n\
         [cache.shared]\n{settings}\n\
         [[routes]]\nname = \"app\"\nupstream = \"app\"\ncache = \"shared\"\n"
    ))
}

/// What the proxy says it did.
fn account(response: &Response) -> String {
    let lines: Vec<&str> = response.headers.all("cache-status").collect();
    lines.last().copied().unwrap_or_default().to_owned()
}

/// The account without the numbers that depend on the clock.
fn did(response: &Response) -> String {
    let account = account(response);
    let parts = account.split("; ").skip(1);
    let parts: Vec<&str> = parts.filter(|part| !part.starts_with("ttl=")).collect();
    parts.join("; ")
}
