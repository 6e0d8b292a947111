//! What the benchmarks against other proxies share: processes that end with the benchmark, and nginx.

pub(crate) mod arguments;
pub(crate) mod cleanup;
pub(crate) mod nginx;
pub(crate) mod process;

use std::path::{Path, PathBuf};

/// A new directory of that name for one server.
pub(crate) fn fresh(directory: &Path, name: &str) -> PathBuf {
    let place = directory.join(name);
    std::fs::create_dir(&place).expect("a directory is made");
    place
}

/// A path as an argument.
pub(crate) fn utf8(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
