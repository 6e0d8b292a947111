//! What a malformed request is made of.

/// Stands in a list of statuses for a close without an answer.
pub(super) const SILENCE: u16 = 0;

pub(super) const BAD: &[u16] = &[400];
pub(super) const CUT_OFF: &[u16] = &[400, 408, SILENCE];

/// What follows an ambiguous message: a request only to one who ends the message too early.
pub(super) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// One connection's worth of bytes and the answers that are right.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// Says after the bytes that no more will come.
    pub(super) finish_sending: bool,
    statuses: &'static [u16],
}

impl Case {
    pub(super) fn new(
        family: &str,
        number: usize,
        bytes: impl Into<Vec<u8>>,
        statuses: &'static [u16],
    ) -> Self {
        let bytes = bytes.into();
        let start = bytes.get(..bytes.len().min(120)).unwrap_or_default();
        Self {
            name: format!("{family} {number} \"{}\"", start.escape_ascii()),
            bytes,
            finish_sending: false,
            statuses,
        }
    }

    /// Whether the status is a right answer.
    pub(super) fn expected(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }
}

pub(super) fn numbered<T, B: Into<Vec<u8>>>(
    family: &str,
    statuses: &'static [u16],
    inputs: impl IntoIterator<Item = T>,
    message: impl Fn(T) -> B,
) -> Vec<Case> {
    inputs
        .into_iter()
        .enumerate()
        .map(|(number, input)| Case::new(family, number, message(input), statuses))
        .collect()
}
