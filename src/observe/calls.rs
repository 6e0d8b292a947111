//! The names of calls: what a return address in a stack belongs to, read from the binary's symbols.
//!
//! Every address is looked up once, however many stacks it is in. Reading the symbols maps the binary and keeps some 200 MiB
//! of it; all of that is given back when this is dropped. Depends on nothing.

use std::collections::HashMap;
use std::sync::Arc;

/// What an address without a symbol is called.
const UNKNOWN: &str = "Unknown";

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// Of the function, with its path.
    pub(super) name: String,
    /// Of its source, as the compiler was given it.
    pub(super) file: String,
    /// Of the source; 0 where it is not known.
    pub(super) line: u32,
}

/// The calls that are known by now.
#[derive(Debug, Default)]
pub(super) struct Calls(HashMap<usize, Arc<[Call]>>);

impl Calls {
    /// The calls at a frame, the innermost of those that were inlined first; none where no symbol is near.
    pub(super) fn of(&mut self, frame: &backtrace::Frame) -> Arc<[Call]> {
        let known = self.0.entry(frame.ip() as usize);
        Arc::clone(known.or_insert_with(|| read(frame)))
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        forget();
    }
}

/// Gives back what was read of the binary.
pub(super) fn forget() {
    backtrace::clear_symbol_cache();
}

fn read(frame: &backtrace::Frame) -> Arc<[Call]> {
    let mut calls = Vec::new();
    backtrace::resolve_frame(frame, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}"));
        let file = symbol.filename().map(|file| file.display().to_string());
        calls.push(Call {
            name: name.unwrap_or_else(|| UNKNOWN.to_owned()),
            file: file.unwrap_or_else(|| UNKNOWN.to_owned()),
            line: symbol.lineno().unwrap_or(0),
        });
    });
    calls.into()
}
