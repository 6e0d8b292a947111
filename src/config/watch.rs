//! Notices when a file of the configuration changes.
//!
//! The content is what counts: a change is reported when a file's content is another than before, however
//! that came about. Directories are watched by the system's notifications, for speed. But Kubernetes swaps a
//! symlink some levels up, network file systems send nothing, and watches run out; so every file is also read
//! every two seconds, which is the guarantee. Runs on a thread of its own. Depends on the clock and `plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::plan::{CertificateFiles, Identify, Jwks, Plan};
use crate::clock::SystemClock;

/// Time between two looks at every file.
const POLL: Duration = Duration::from_secs(2);

/// How long it must have been quiet: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// The longest wait for quiet, lest a busy directory put a change off forever.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Files whose content is another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Their paths, as they were given.
    pub files: Vec<PathBuf>,
}

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct Watch {
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Event,
    Files(BTreeSet<PathBuf>),
    Stop,
}

/// The files `plan` was made of: its own, and each that it names and that is read anew on a reload.
#[must_use]
pub fn files(plan: &Plan) -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = plan.source.iter().cloned().collect();
    files.extend(
        plan.admin
            .token
            .iter()
            .filter_map(|token| token.file())
            .map(Path::to_owned),
    );
    for identify in &plan.clients.identify {
        if let Identify::Jwt(jwt) = identify
            && let Jwks::File(file) = &jwt.jwks
        {
            files.insert(file.clone());
        }
    }
    let known = plan.clients.known.iter();
    files.extend(known.flat_map(|one| one.key_files.iter().cloned()));
    for tls in plan.listeners.iter().filter_map(|one| one.tls.as_ref()) {
        files.extend(tls.certificates.iter().flat_map(both));
        files.extend(tls.client_ca.clone());
    }
    for tls in plan.upstreams.iter().filter_map(|one| one.tls.as_ref()) {
        files.extend(tls.client.iter().flat_map(both));
        files.extend(tls.ca.clone());
    }
    let to = &plan.telemetry.exporters;
    if let Some(otlp) = &to.otlp {
        let secrets = otlp.headers.iter().filter_map(|(_, secret)| secret.file());
        files.extend(secrets.map(Path::to_owned));
        files.extend(otlp.ca.clone());
    }
    if let Some(splunk) = &to.splunk {
        files.extend(splunk.token.file().map(Path::to_owned));
        files.extend(splunk.ca.clone());
    }
    files
}

fn both(files: &CertificateFiles) -> [PathBuf; 2] {
    [files.certificate.clone(), files.key.clone()]
}

impl Watch {
    /// Begins to watch `files`, and calls `on_change` from the watching thread after each change.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started. Failing notifications are no error: the polling goes on.
    pub fn start(
        files: BTreeSet<PathBuf>,
        on_change: impl Fn(Change) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_polling(files, POLL, on_change)
    }

    fn start_polling(
        files: BTreeSet<PathBuf>,
        poll: Duration,
        on_change: impl Fn(Change) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let notices = Notices::new(sender.clone());
        let mut state = State::new(notices, files);
        let thread = std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || state.run(&receiver, poll, &on_change))?;
        Ok(Self {
            sender,
            thread: Some(thread),
        })
    }

    /// Watches `files` from now on, as after a reload. Files that were watched before keep the content they
    /// had then, so that no change is lost in between.
    pub fn set_files(&self, files: BTreeSet<PathBuf>) {
        // The thread lives as long as this handle.
        drop(self.sender.send(Message::Files(files)));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.sender.send(Message::Stop));
        let own = std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|one| one.thread().id() != own) {
            drop(thread.join());
        }
    }
}

/// The system's notifications about directories.
struct Notices {
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
}

impl Notices {
    fn new(sender: Sender<Message>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event as well; reacting to it would never end.
            let is_reading = matches!(
                event.as_ref().map(|event| event.kind),
                Ok(EventKind::Access(kind)) if kind != AccessKind::Close(AccessMode::Write)
            );
            if !is_reading {
                drop(sender.send(Message::Event));
            }
        });
        Self {
            watcher: watcher.ok(),
            directories: BTreeSet::new(),
        }
    }

    /// Watches the directories of `files`, of the links they are and of what these point to.
    fn set(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let targets: Vec<PathBuf> = files
            .iter()
            .filter_map(|file| file.canonicalize().ok())
            .collect();
        let directories: BTreeSet<PathBuf> = files
            .iter()
            .chain(&targets)
            .filter_map(|file| file.parent())
            .map(|directory| match directory {
                here if here == Path::new("") => PathBuf::from("."),
                directory => directory.to_owned(),
            })
            .collect();
        for gone in self.directories.difference(&directories) {
            drop(watcher.unwatch(gone));
        }
        let watched = directories
            .into_iter()
            .filter(|directory| {
                self.directories.contains(directory)
                    || watcher
                        .watch(directory, RecursiveMode::NonRecursive)
                        .is_ok()
            })
            .collect();
        self.directories = watched;
    }
}

/// What the thread knows: each file's content, as a hash.
struct State {
    notices: Notices,
    files: BTreeMap<PathBuf, Option<u64>>,
}

impl State {
    fn new(mut notices: Notices, files: BTreeSet<PathBuf>) -> Self {
        notices.set(&files);
        let files = files.into_iter().map(|file| (content(&file), file));
        Self {
            notices,
            files: files.map(|(hash, file)| (file, hash)).collect(),
        }
    }

    fn run(&mut self, receiver: &Receiver<Message>, poll: Duration, on_change: &dyn Fn(Change)) {
        loop {
            match receiver.recv_timeout(poll) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Files(files)) => self.set(files),
                Ok(Message::Event) => {
                    if self.settle(receiver).is_none() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let files = self.changed();
            if !files.is_empty() {
                // A swapped link leads to another directory.
                let all = self.files.keys().cloned().collect();
                self.notices.set(&all);
                on_change(Change { files });
            }
        }
    }

    /// Waits until no event has come for a while. None: stop.
    fn settle(&mut self, receiver: &Receiver<Message>) -> Option<()> {
        let since = SystemClock.now();
        while SystemClock.now().since(since) < LONGEST_WAIT {
            match receiver.recv_timeout(QUIET) {
                Ok(Message::Event) => {}
                Ok(Message::Files(files)) => self.set(files),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        Some(())
    }

    fn set(&mut self, files: BTreeSet<PathBuf>) {
        self.notices.set(&files);
        let mut before = std::mem::take(&mut self.files);
        for file in files {
            let hash = before.remove(&file).unwrap_or_else(|| content(&file));
            self.files.insert(file, hash);
        }
    }

    /// The files whose content is another than before. One that cannot be read is likely being replaced: it
    /// counts when it can be read again.
    fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (file, known) in &mut self.files {
            let now = content(file);
            if now.is_some() && now != *known {
                *known = now;
                changed.push(file.clone());
            }
        }
        changed
    }
}

/// A hash of the file's content; none if it cannot be read.
fn content(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn watch(files: &[&Path], poll: Duration) -> (Watch, Receiver<Change>) {
        let (sender, receiver) = channel();
        let files = files.iter().map(|file| file.to_path_buf()).collect();
        let watch = Watch::start_polling(files, poll, move |change| {
            sender.send(change).unwrap();
        });
        (watch.unwrap(), receiver)
    }

    #[test]
    fn another_content_is_a_change_and_the_same_content_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "1").unwrap();
        let (_watch, changes) = watch(&[&one, &two], Duration::from_millis(20));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "2").unwrap();
        let change = changes.recv_timeout(LONG).unwrap();
        assert_eq!(change.files, [two]);
    }

    #[test]
    fn a_swapped_directory_link_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (version, text) in [("v1", "old"), ("v2", "new")] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("tidegate.toml"), text).unwrap();
        }
        symlink("v1", path("..data")).unwrap();
        symlink("..data/tidegate.toml", path("tidegate.toml")).unwrap();
        let file = path("tidegate.toml");
        let (_watch, changes) = watch(&[&file], Duration::from_millis(20));
        symlink("v2", path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        assert_eq!(changes.recv_timeout(LONG).unwrap().files, [file]);
    }

    #[test]
    fn notifications_alone_are_enough_on_a_plain_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, "1").unwrap();
        let (_watch, changes) = watch(&[&file], Duration::from_secs(3_600));
        std::fs::write(&file, "2").unwrap();
        assert_eq!(changes.recv_timeout(LONG).unwrap().files, [file]);
    }

    #[test]
    fn the_watched_files_can_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "1").unwrap();
        let mut state = State::new(
            Notices {
                watcher: None,
                directories: BTreeSet::new(),
            },
            [one.clone()].into(),
        );
        std::fs::write(&one, "2").unwrap();
        state.set([one.clone(), two.clone()].into());
        assert_eq!(state.changed(), std::slice::from_ref(&one));
        std::fs::write(&two, "2").unwrap();
        state.set([two.clone()].into());
        assert_eq!(state.changed(), std::slice::from_ref(&two));
        std::fs::remove_file(&two).unwrap();
        assert!(state.changed().is_empty());
        std::fs::write(&two, "2").unwrap();
        assert!(state.changed().is_empty());
    }

    #[test]
    fn a_dropped_watch_is_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, "1").unwrap();
        let (watch, changes) = watch(&[&file], Duration::from_millis(20));
        drop(watch);
        std::fs::write(&file, "2").unwrap();
        assert_eq!(
            changes.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
