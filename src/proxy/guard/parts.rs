//! Where the parts of a request's head lie. Depends on `httparse`.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

/// Fields of a head for which there is room on the stack.
const FEW: usize = 100;

/// Where in a head a field's name and value begin and end.
pub(crate) type Span = [u32; 4];

/// Where the parts of the head lie that some bytes begin with.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Of the head, with the empty line behind it.
    pub(crate) length: usize,
    /// Where the method begins and ends.
    pub(crate) method: [usize; 2],
    /// Where the target does.
    pub(crate) target: [usize; 2],
    /// The minor version: 0 or 1.
    pub(crate) minor: u8,
    pub(crate) fields: Vec<Span>,
}

impl Parts {
    pub(crate) const fn new() -> Self {
        Self {
            length: 0,
            method: [0; 2],
            target: [0; 2],
            minor: 0,
            fields: Vec::new(),
        }
    }

    /// Finds the parts of the head that `bytes` begin with, which may have `max_fields` fields; false while it is not all
    /// there.
    ///
    /// # Errors
    /// When it is malformed. What it is to be refused for besides is for the guard to say.
    pub(crate) fn find(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<bool, httparse::Error> {
        let mut few = [const { MaybeUninit::uninit() }; FEW];
        let mut many = Vec::new();
        let fields = if max_fields <= FEW {
            few.get_mut(..max_fields).unwrap_or_default()
        } else {
            many.resize(max_fields, MaybeUninit::uninit());
            many.as_mut_slice()
        };
        let mut request = httparse::Request::new(&mut []);
        let config = ParserConfig::default();
        let parsed = config.parse_request_with_uninit_headers(&mut request, bytes, fields)?;
        let (Status::Complete(length), Some(method), Some(target), Some(minor)) =
            (parsed, request.method, request.path, request.version)
        else {
            return Ok(false);
        };
        self.length = length;
        self.method = span(bytes, method.as_bytes());
        self.target = span(bytes, target.as_bytes());
        self.minor = minor;
        note_spans(bytes, request.headers, &mut self.fields);
        Ok(true)
    }
}

/// Where `part` of `bytes` begins and ends.
fn span(bytes: &[u8], part: &[u8]) -> [usize; 2] {
    let from = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    [from, from.wrapping_add(part.len())]
}

/// Notes in `spans` where the `fields` of `bytes` are.
pub(crate) fn note_spans(bytes: &[u8], fields: &[Header<'_>], spans: &mut Vec<Span>) {
    spans.clear();
    spans.extend(fields.iter().map(|field| {
        let [name, name_end] = span(bytes, field.name.as_bytes());
        let [value, value_end] = span(bytes, field.value);
        // No head is longer than 32 bits can tell.
        let narrow = |at| u32::try_from(at).unwrap_or(u32::MAX);
        [name, name_end, value, value_end].map(narrow)
    }));
}
