//! Values on a benchmark's command line.

/// A whole number above zero.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text}: a whole number above zero is needed")),
        Ok(count) => Ok(count),
    }
}

/// Names between commas, each of them among `known`.
pub(crate) fn names(text: &str, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
    text.split(',')
        .map(|name| {
            let found = known.iter().find(|known| **known == name);
            found.copied().ok_or_else(|| {
                format!("{name} is not among those that exist: {}", known.join(", "))
            })
        })
        .collect()
}
