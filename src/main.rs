//! The `tidegate` command: parses its arguments, calls the library, returns an exit code.

fn main() {}
