//! What is wrong, and how much room there is.

use serde::{Deserialize, Serialize};

/// `GET /api/v1/diagnosis`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Whether clients suffer.
    pub lagging: bool,
    /// The causes, most likely first; none when nothing is wrong.
    pub verdicts: Vec<Verdict>,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is wrong.
    pub cause: String,
    /// The client, endpoint, component or upstream it is about.
    pub subject: String,
    /// The upstream it was seen at; null for Tidegate itself.
    pub upstream: Option<String>,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// For how long it has been seen.
    pub since_seconds: u64,
    /// When it was last found; null: it is found now.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// The numbers that speak for it.
    pub evidence: Vec<VerdictEvidence>,
    /// What to do about it.
    pub advice: String,
    /// The same as a body for `POST /api/v1/isolations`, where that is what to do.
    #[serde(default)]
    pub action: Option<super::Isolate>,
}

/// One number, and what it usually is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictEvidence {
    /// What it counts or measures.
    pub what: String,
    /// What it is now.
    pub value: f64,
    /// What it usually is; null when that is not known.
    pub baseline: Option<f64>,
    /// What both count.
    pub unit: String,
}

/// `GET /api/v1/scale/{upstream}`: a signal for autoscalers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Utilisation: what is asked for ÷ what the upstream can carry.
    pub value: f64,
    /// The part of what it can carry that nobody asks for.
    pub headroom: f64,
    /// How many times as much of it there should be.
    pub desired_factor: f64,
    /// Whether more of it would help; false when everything waits for something shared.
    pub scale_out_helps: bool,
}
