//! Who asks, and how much.

use crate::load::Client;

/// A load that an origin cannot carry, or only just.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Requests at this many times the origin's capacity.
    Open(u32),
    /// Clients within their share beside one that floods.
    Flood,
}

/// Clients within their share, in [`Scenario::Flood`].
const VICTIMS: u32 = 20;

/// What each of them asks for, of the origin's capacity. An equal share among them and the flooding
/// client would be 1/21.
const VICTIM_SHARE: f64 = 0.04;

/// What the flooding client asks for, of the origin's capacity.
const FLOOD: f64 = 4.0;

impl Scenario {
    /// Every scenario, in the order they are run.
    pub(crate) const ALL: [Self; 5] = [
        Self::Open(1),
        Self::Open(2),
        Self::Open(5),
        Self::Open(10),
        Self::Flood,
    ];

    /// Its name on the command line and in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open(1) => "1x",
            Self::Open(2) => "2x",
            Self::Open(5) => "5x",
            Self::Open(_) => "10x",
            Self::Flood => "flood",
        }
    }

    /// Who asks an origin of this capacity, in requests a second.
    pub(crate) fn clients(self, capacity: f64) -> Vec<Client> {
        match self {
            Self::Open(times) => vec![Client {
                key: None,
                rate: f64::from(times) * capacity,
                victim: false,
            }],
            Self::Flood => (0..VICTIMS)
                .map(|number| Client {
                    key: Some(format!("victim-{number}")),
                    rate: VICTIM_SHARE * capacity,
                    victim: true,
                })
                .chain([Client {
                    key: Some("flood".to_owned()),
                    rate: FLOOD * capacity,
                    victim: false,
                }])
                .collect(),
        }
    }
}
