//! The JSON Schema as a page for people.

use serde_json::Value;

/// The page.
pub(crate) fn render(schema: &Value) -> String {
    let mut page = String::from(
        "# Every key of the configuration\n\nMade from `tidegate schema` by `make docs`. Durations are written `250ms`, `5s`, `1h`; sizes `64KiB`; \
         rates `100/s`, `5000/h`; ratios `0.5` or `50%`. `config/full.toml` shows every key in place.\n",
    );
    table(&mut page, schema, schema, "");
    page
}

/// One table of the configuration, and those below it.
fn table(page: &mut String, root: &Value, schema: &Value, path: &str) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let title = if path.is_empty() { "At the top" } else { path };
    page.push_str(&format!(
        "\n## {title}\n\n| key | what | default |\n| --- | --- | --- |\n"
    ));
    let mut below = Vec::new();
    for (key, property) in properties {
        let what = text(&property["description"]);
        page.push_str(&format!("| `{key}` | {what} | {} |\n", default(property)));
        if let Some((schema, form)) = inner(root, property) {
            let name = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            below.push((schema, format!("{name}{form}")));
        }
    }
    // A table that stands below itself would never end.
    for (schema, path) in below
        .into_iter()
        .filter(|(_, path)| path.matches('.').count() < 5)
    {
        table(page, root, schema, &path);
    }
}

/// The table that a property holds, and what stands for its name: one, several by name, or a list.
fn inner<'a>(root: &'a Value, property: &'a Value) -> Option<(&'a Value, &'static str)> {
    let resolve = |value: &'a Value| match value["$ref"].as_str() {
        Some(name) => root.pointer(name.trim_start_matches('#')).unwrap_or(value),
        None => value,
    };
    let candidates = [
        (property, ""),
        (&property["items"], "[]"),
        (&property["additionalProperties"], ".NAME"),
    ];
    candidates.into_iter().find_map(|(value, form)| {
        let direct = resolve(value);
        let choices = ["anyOf", "oneOf"]
            .iter()
            .flat_map(|word| direct[word].as_array().into_iter().flatten());
        let mut all = std::iter::once(direct).chain(choices.map(resolve));
        let found = all.find(|schema| schema["properties"].is_object())?;
        Some((found, form))
    })
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_default()
        .replace('\n', " ")
        .replace('|', "\\|")
}

/// A default that fits a cell.
fn default(property: &Value) -> String {
    match &property["default"] {
        Value::Null => String::new(),
        Value::Object(_) => String::new(),
        Value::Array(list) if list.is_empty() => String::new(),
        value => format!("`{value}`"),
    }
}
