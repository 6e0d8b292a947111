//! The demo's configuration: three upstreams, one cache, what their clients are promised, and clients known by name.

use std::net::SocketAddr;

use super::clients;
use super::origins::Endpoint;

/// What turns every policy of an upstream off.
const OFF: &str = "balance = \"round-robin\"\nconcurrency = { mode = \"off\" }\nbreaker = { mode = \"off\" }\n\
                   outlier = { mode = \"off\" }\nretry = { mode = \"off\" }\n";

/// The configuration of a proxy at `proxy` with its admin API at `admin`; `off` turns every policy off.
pub(super) fn text(
    origins: &[Endpoint],
    proxy: SocketAddr,
    admin: SocketAddr,
    off: bool,
) -> String {
    let mut text = format!(
        "version = 1\n[[listen]]\naddress = \"{proxy}\"\n[admin]\naddress = \"{admin}\"\n\
         [telemetry]\naccess_log = {{ path = \"off\" }}\n[cache.catalog]\n\
         stale_if_unhealthy = \"0s\"\n[slos.interactive]\navailability = 0.99\n\
         latency = {{ quantile = 0.98, below = \"250ms\", over = \"10s\" }}\n"
    );
    let mut names: Vec<&str> = origins.iter().map(Endpoint::upstream).collect();
    names.dedup();
    for name in names {
        let of_it = origins.iter().filter(|one| one.upstream() == name);
        let endpoints: Vec<String> = of_it.map(|one| format!("\"{}\"", one.address())).collect();
        text.push_str(&format!(
            "[upstreams.{name}]\nendpoints = [{}]\n{}[[routes]]\nname = \"{name}\"\n\
             upstream = \"{name}\"\nslo = \"interactive\"\nmatch = {{ path_prefix = \"/{name}\" }}\n{}",
            endpoints.join(", "),
            if off { OFF } else { "" },
            if name == "catalog" {
                "cache = \"catalog\"\n"
            } else {
                ""
            },
        ));
    }
    for client in clients::all() {
        let name = &client.name;
        let hash = ring::digest::digest(&ring::digest::SHA256, client.key().as_bytes());
        let hash: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.push_str(&format!(
            "[[clients.known]]\nname = \"{name}\"\nkeys = [\"sha256:{hash}\"]\nowner = \"{}\"\n",
            client.owner()
        ));
    }
    text
}
