//! The rules by their sections, and random histories against an oracle written from the text of RFC 9111.

mod control;
mod oracle;
mod reuse;
mod storing;
mod validation;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A moment: Sun, 06 Nov 1994 08:49:37 GMT, in seconds.
const NOW: i64 = 784_111_777;
/// The same as a header says it.
const NOW_TEXT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
/// The same in milliseconds.
const NOW_MILLIS: u64 = 784_111_777_000;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::try_from(*name).unwrap();
        headers.append(name, HeaderValue::try_from(*value).unwrap());
    }
    headers
}

/// The date that is so many seconds after [`NOW`].
fn date(offset: i64) -> String {
    let value = super::date::format(NOW + offset).unwrap();
    value.to_str().unwrap().to_owned()
}
