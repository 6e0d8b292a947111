//! Which text format a reader is sent.

/// Whether the reader would rather have the older text format, by the fields of its `Accept`. Who likes both as
/// much, or names neither, is sent `OpenMetrics`. A version that is not written here counts as not asked for.
#[must_use]
pub fn prefers_classic<'a>(accept: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut open, mut classic, mut any) = (None, None, 0.0);
    let ranges = accept.into_iter().flat_map(|field| field.split(','));
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f32, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        let best = |known: Option<f32>| Some(known.map_or(quality, |known| known.max(quality)));
        match (kind.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => open = best(open),
            ("text/plain", None | Some("0.0.4")) => classic = best(classic),
            ("*/*", _) => any = quality,
            _ => {}
        }
    }
    classic.unwrap_or(any) > open.unwrap_or(any)
}

#[cfg(test)]
mod tests {
    use super::prefers_classic;

    #[test]
    fn who_asks_for_the_older_format_before_the_other_gets_it() {
        for accept in [
            "text/plain",
            "text/plain;version=0.0.4;charset=utf-8",
            "application/openmetrics-text;q=0.2, Text/Plain; Q=0.7",
            "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text;q=0, */*;q=0.1",
        ] {
            assert!(prefers_classic([accept]), "{accept}");
        }
        assert!(prefers_classic([
            "application/openmetrics-text;q=0.1",
            "text/plain"
        ]));
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
            // As Prometheus 2.42 asks.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ] {
            assert!(!prefers_classic([accept]), "{accept}");
        }
        assert!(!prefers_classic([]));
    }
}
