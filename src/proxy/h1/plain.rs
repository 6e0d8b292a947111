//! A response's head that is passed on as it was read: its fields are neither taken apart nor put into a map, since
//! nobody on the way has anything to do with them.

use super::head::{Said, names_no_field};
use crate::proxy::guard::Span;

/// The fields of a response, none of which is remarkable.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    /// The fields as they are written, but those that each hop writes anew.
    pub(super) text: Vec<u8>,
    /// Whether a date is among them.
    pub(super) dated: bool,
    /// The announced length of the body.
    pub(super) announced: Option<u64>,
    /// Where in `text` the validator begins and ends.
    validator: Option<[usize; 2]>,
}

/// What is done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Pass,
    /// It is this hop's, or written anew.
    Drop,
    Date,
    Tag,
    Change,
    /// It concerns somebody on the way.
    Attend,
}

impl Plain {
    /// Takes in the fields at `spans` of `head`, and notes what they say to this hop; false when one of them is to be
    /// attended to.
    pub(super) fn take(&mut self, head: &[u8], spans: &[Span], said: &mut Said) -> bool {
        self.text.clear();
        self.dated = false;
        self.validator = None;
        for span in spans {
            let [name, name_end, value, value_end] = span.map(|at| at as usize);
            let name = head.get(name..name_end).unwrap_or_default();
            let value = head.get(value..value_end).unwrap_or_default();
            let treatment = treatment(name, value);
            if treatment == Treatment::Attend || said.note(name, value).is_err() {
                return false;
            }
            if treatment == Treatment::Drop {
                continue;
            }
            let text = &mut self.text;
            text.reserve(name.len() + value.len() + 4);
            text.extend_from_slice(name);
            text.extend_from_slice(b": ");
            let from = text.len();
            text.extend_from_slice(value);
            let place = [from, text.len()];
            text.extend_from_slice(b"\r\n");
            match treatment {
                Treatment::Date => self.dated = true,
                Treatment::Tag => self.validator = Some(place),
                Treatment::Change => {
                    self.validator.get_or_insert(place);
                }
                Treatment::Pass | Treatment::Drop | Treatment::Attend => {}
            }
        }
        self.announced = said.length();
        // Of a length that was given twice, or stands beside a coding, there is more to be said.
        !said.repeated() && (said.length().is_none() || said.coding().is_none())
    }

    /// The bytes that there is room for.
    pub(crate) const fn room(&self) -> usize {
        self.text.capacity()
    }

    /// What later requests can be conditional on.
    pub(crate) fn validator(&self) -> Option<&[u8]> {
        let [from, to] = self.validator?;
        self.text.get(from..to)
    }
}

/// What is done with a field. Its length tells nearly every one from those that matter.
fn treatment(name: &[u8], value: &[u8]) -> Treatment {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        2 if is("te") => Treatment::Attend,
        4 if is("date") => Treatment::Date,
        4 if is("etag") => Treatment::Tag,
        7 if is("trailer") || is("upgrade") => Treatment::Attend,
        9 if is("ratelimit") => Treatment::Attend,
        10 if is("keep-alive") => Treatment::Drop,
        10 if is("connection") && names_no_field(value) => Treatment::Drop,
        10 if is("connection") => Treatment::Attend,
        12 if is("x-request-id") => Treatment::Drop,
        12 if is("content-type") && value.starts_with(b"text/event-stream") => Treatment::Attend,
        13 if is("last-modified") => Treatment::Change,
        13 if is("server-timing") => Treatment::Attend,
        14 if is("content-length") => Treatment::Drop,
        14 if is("http2-settings") => Treatment::Attend,
        16 if is("ratelimit-policy") || is("proxy-connection") => Treatment::Attend,
        17 if is("transfer-encoding") => Treatment::Drop,
        17 if is("x-tidegate-metric") => Treatment::Attend,
        18 if is("proxy-authenticate") => Treatment::Attend,
        19 if is("proxy-authorization") => Treatment::Attend,
        _ => Treatment::Pass,
    }
}
