//! What the control runtime learns about endpoints: where they are (DNS) and whether they are well (checks).
//!
//! Each source is a task that writes into [`crate::engine::upstream`]; the data workers only ever read what
//! is there, so a slow resolver or a hanging check never delays a request. Depends on engine, policy, config,
//! model and clock.

pub mod dns;
pub mod health;
mod task;
