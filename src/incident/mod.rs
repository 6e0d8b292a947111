//! Incidents: what is wrong, since when, with which evidence, and what to do about it.
//!
//! [`span`] sums what happened to one upstream in a stretch of time, [`history`] keeps the last two minutes by the second
//! and what is usual, [`diagnose`] compares the two and ranks the causes, [`scale`] says how much room there is. All of
//! that is pure: time is an argument, names are numbers. [`watch`] feeds it from what the observer sees;
//! [`objectives`] holds everybody to what is promised and opens [`incidents`]. Of each, [`bundles`] keeps a
//! [`bundle`]: what the [`recorder`] and its likes know, and what the diagnosis was made of ([`frozen`]). May depend on
//! observe, measure, engine and clients.

pub mod bundle;
pub mod bundles;
pub mod diagnose;
pub mod frozen;
pub mod history;
mod hosts;
pub mod incidents;
pub mod naming;
pub mod objectives;
pub mod past;
pub mod recorder;
pub mod repeats;
pub mod scale;
pub mod span;
mod standing;
pub mod table;
pub mod watch;
