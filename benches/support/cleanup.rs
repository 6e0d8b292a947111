//! Stops what the benchmark started when a person interrupts it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// The process groups that are running. Each is led by a child of this process that has not been
/// waited for, so its number cannot have passed to anybody else.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Remembers a process group until [`stop`].
pub(crate) fn remember(group: Pid) {
    GROUPS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(group);
}

/// Kills a process group; its leader is still to be waited for.
pub(crate) fn stop(group: Pid) {
    let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    groups.retain(|other| *other != group);
    // It may be gone already.
    kill_process_group(group, Signal::KILL).ok();
}

/// On ctrl-c: kills every group, removes the directory and exits.
pub(crate) fn on_interrupt(directory: &Path) {
    let directory: PathBuf = directory.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime");
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
            for group in groups.iter() {
                kill_process_group(*group, Signal::KILL).ok();
            }
            drop(std::fs::remove_dir_all(&directory));
            std::process::exit(130);
        }
    });
}
