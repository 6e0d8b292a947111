//! Everything that is shown, asked for at one moment.

use super::super::client::{Client, Error};
use crate::admin::api::{
    Breakers, Clients, Diagnosis, InFlight, Isolations, Limits, Status, Upstreams,
};

/// What the admin API answered.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub(super) status: Status,
    pub(super) upstreams: Upstreams,
    pub(super) limits: Limits,
    pub(super) breakers: Breakers,
    pub(super) clients: Clients,
    pub(super) in_flight: InFlight,
    pub(super) diagnosis: Diagnosis,
    pub(super) isolations: Isolations,
}

impl Shot {
    /// Asks for all of it.
    pub(super) fn take(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            status: client.get("/api/v1/status")?.0,
            upstreams: client.get("/api/v1/upstreams")?.0,
            limits: client.get("/api/v1/limits")?.0,
            breakers: client.get("/api/v1/breakers")?.0,
            clients: client.get("/api/v1/clients?limit=200")?.0,
            in_flight: client.get("/api/v1/inflight?limit=200")?.0,
            diagnosis: client.get("/api/v1/diagnosis")?.0,
            isolations: client.get("/api/v1/isolations")?.0,
        })
    }
}
