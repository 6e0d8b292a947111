//! Which format a reader is sent.

use super::out::Format;

/// What the reader would rather have, by the fields of its `Accept`. Who likes several as much is sent the first of
/// protobuf, `OpenMetrics` and the older text; who names none, `OpenMetrics`. A version or a schema that is not
/// written here counts as not asked for.
#[must_use]
pub fn format<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
    let mut asked = [None::<f32>; 3];
    let mut any = 0.0;
    let ranges = accept.into_iter().flat_map(|field| field.split(','));
    for range in ranges {
        let range = Range::read(range);
        let [protobuf, open, classic] = &mut asked;
        let slot = match range.kind.as_str() {
            "application/vnd.google.protobuf" if range.is_ours() => protobuf,
            "application/openmetrics-text" if range.is_version("1.0.0") => open,
            "text/plain" if range.is_version("0.0.4") => classic,
            "*/*" => {
                any = range.quality;
                continue;
            }
            _ => continue,
        };
        *slot = Some(slot.map_or(range.quality, |known| known.max(range.quality)));
    }
    let [protobuf, open, classic] = asked;
    let (protobuf, open) = (protobuf.unwrap_or(0.0), open.unwrap_or(any));
    let classic = classic.unwrap_or(any);
    if protobuf > 0.0 && protobuf >= open && protobuf >= classic {
        Format::Protobuf
    } else if classic > open {
        Format::Classic
    } else {
        Format::OpenMetrics
    }
}

/// One alternative of an `Accept` field.
struct Range<'a> {
    kind: String,
    quality: f32,
    parameters: Vec<(String, &'a str)>,
}

impl<'a> Range<'a> {
    fn read(range: &'a str) -> Self {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut parameters) = (1.0, Vec::new());
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let name = name.trim().to_ascii_lowercase();
            let value = value.trim().trim_matches('"');
            if name == "q" {
                quality = value.parse().unwrap_or(0.0);
            } else {
                parameters.push((name, value));
            }
        }
        Self {
            kind,
            quality,
            parameters,
        }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let mut found = self.parameters.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| *value)
    }

    fn is_version(&self, version: &str) -> bool {
        self.get("version").is_none_or(|asked| asked == version)
    }

    fn is_ours(&self) -> bool {
        self.get("proto") == Some("io.prometheus.client.MetricFamily")
            && self.get("encoding") == Some("delimited")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_the_older_format_before_the_other_gets_it() {
        for accept in [
            "text/plain",
            "text/plain;version=0.0.4;charset=utf-8",
            "application/openmetrics-text;q=0.2, Text/Plain; Q=0.7",
            "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text;q=0, */*;q=0.1",
        ] {
            assert_eq!(format([accept]), Format::Classic, "{accept}");
        }
        let fields = ["application/openmetrics-text;q=0.1", "text/plain"];
        assert_eq!(format(fields), Format::Classic);
    }

    #[test]
    fn who_asks_for_protobuf_before_the_others_gets_it() {
        for accept in [
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            // As Prometheus 2.42 asks with native histograms.
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
             application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ] {
            assert_eq!(format([accept]), Format::Protobuf, "{accept}");
        }
    }

    #[test]
    fn everybody_else_gets_openmetrics() {
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text, text/plain",
            "text/plain;version=1.0.0",
            "text/plain;q=nonsense, application/openmetrics-text;q=0.1",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=another;encoding=delimited",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3, */*",
            // As Prometheus 2.42 asks without.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ] {
            assert_eq!(format([accept]), Format::OpenMetrics, "{accept}");
        }
        assert_eq!(format([]), Format::OpenMetrics);
    }
}
