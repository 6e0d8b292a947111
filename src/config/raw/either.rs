//! Values that are either a text or a table.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::Spanned;

/// One endpoint: `"10.0.0.1:8080"`, or a table.
#[derive(Clone, Debug)]
pub(crate) struct RawEndpoint {
    /// Where it is, as written.
    pub(crate) address: Option<Spanned<String>>,
    /// Relative share.
    pub(crate) weight: Spanned<f64>,
    /// Zone.
    pub(crate) zone: Option<Spanned<String>>,
    /// Its host's node exporter.
    pub(crate) node: Option<Spanned<String>>,
}

/// One endpoint with its properties.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RawEndpoint", extend("required" = ["address"]))]
struct EndpointTable {
    /// `host:port`, `http://host:port`, `https://host[:port]` or `unix:/path`.
    #[schemars(required)]
    address: Option<Spanned<String>>,
    /// Relative share; above zero.
    #[schemars(extend("exclusiveMinimum" = 0))]
    weight: Spanned<f64>,
    /// Zone, for display.
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<Spanned<String>>,
    /// The node exporter of its host, `http://host:9100/metrics`, asked every five seconds. At most 256 different ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Spanned<String>>,
}

impl Default for EndpointTable {
    fn default() -> Self {
        Self {
            address: None,
            weight: 1.0.into(),
            zone: None,
            node: None,
        }
    }
}

impl From<EndpointTable> for RawEndpoint {
    fn from(table: EndpointTable) -> Self {
        Self {
            address: table.address,
            weight: table.weight,
            zone: table.zone,
            node: table.node,
        }
    }
}

struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = RawEndpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"10.0.0.1:8080\", or { address = \"…\", weight = 1 }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawEndpoint, E> {
        Ok(RawEndpoint {
            address: Some(text.to_owned().into()),
            ..EndpointTable::default().into()
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEndpoint, A::Error> {
        EndpointTable::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint::from)
    }
}

impl<'de> Deserialize<'de> for RawEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointVisitor)
    }
}

impl Serialize for RawEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EndpointTable {
            address: self.address.clone(),
            weight: self.weight.clone(),
            zone: self.zone.clone(),
            node: self.node.clone(),
        }
        .serialize(serializer)
    }
}

impl JsonSchema for RawEndpoint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EndpointOrAddress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<EndpointTable>();
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RawBalance {
    /// `"peak-ewma"`.
    PeakEwma,
    /// `"least-request"`.
    LeastRequest,
    /// `"round-robin"`.
    RoundRobin,
    /// `{ hash = "client" | "path" | "header:NAME" }`, not yet read further.
    Hash(String),
}

/// The methods that are a name alone.
const BALANCE: [&str; 3] = ["peak-ewma", "least-request", "round-robin"];

/// Always the same endpoint for the same value.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RawHash")]
struct HashTable {
    /// What is hashed: `client`, `path` or `header:NAME`.
    #[schemars(regex(pattern = r"^(client|path|header:.+)$"))]
    hash: String,
}

struct BalanceVisitor;

impl<'de> Visitor<'de> for BalanceVisitor {
    type Value = RawBalance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name such as \"peak-ewma\", or { hash = \"client\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawBalance, E> {
        match text {
            "peak-ewma" => Ok(RawBalance::PeakEwma),
            "least-request" => Ok(RawBalance::LeastRequest),
            "round-robin" => Ok(RawBalance::RoundRobin),
            _ => Err(E::unknown_variant(text, &BALANCE)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawBalance, A::Error> {
        let table = HashTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawBalance::Hash(table.hash))
    }
}

impl<'de> Deserialize<'de> for RawBalance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BalanceVisitor)
    }
}

impl Serialize for RawBalance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PeakEwma => serializer.serialize_str("peak-ewma"),
            Self::LeastRequest => serializer.serialize_str("least-request"),
            Self::RoundRobin => serializer.serialize_str("round-robin"),
            Self::Hash(on) => single(serializer, "hash", on),
        }
    }
}

impl JsonSchema for RawBalance {
    fn schema_name() -> Cow<'static, str> {
        "RawBalance".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let hash = generator.subschema_for::<HashTable>();
        json_schema!({ "anyOf": [{ "type": "string", "enum": BALANCE }, hash] })
    }
}

/// A secret, or where to find it.
#[derive(Clone, Debug)]
pub(crate) enum RawSecret {
    /// Written out.
    Literal(String),
    /// In this environment variable.
    Env(String),
    /// In this file, without its final newline.
    File(String),
}

/// Where to find a secret. Needs exactly one of its keys.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "SecretPlace", extend("minProperties" = 1, "maxProperties" = 1))]
struct SecretTable {
    /// The environment variable that holds it.
    env: Option<String>,
    /// The file that holds it; a final newline is not part of it. Read again when the file changes.
    file: Option<String>,
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = RawSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" }, { file = \"path\" } or a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawSecret, E> {
        Ok(RawSecret::Literal(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSecret, A::Error> {
        let place = SecretTable::deserialize(MapAccessDeserializer::new(map))?;
        match (place.env, place.file) {
            (Some(name), None) => Ok(RawSecret::Env(name)),
            (None, Some(path)) => Ok(RawSecret::File(path)),
            _ => Err(de::Error::custom("a secret needs one of `env` and `file`")),
        }
    }
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

impl Serialize for RawSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Literal(text) => serializer.serialize_str(text),
            Self::Env(name) => single(serializer, "env", name),
            Self::File(path) => single(serializer, "file", path),
        }
    }
}

impl JsonSchema for RawSecret {
    fn schema_name() -> Cow<'static, str> {
        "RawSecret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let place = generator.subschema_for::<SecretTable>();
        json_schema!({ "anyOf": [{ "type": "string" }, place] })
    }
}

/// A table with one key.
fn single<S: Serializer>(serializer: S, key: &str, value: &str) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}
