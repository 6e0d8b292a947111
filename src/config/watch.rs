//! Notices when a file of the configuration changes.
//!
//! The content is what counts: every file is read twice a second, and a change is reported when a file has
//! another content than before and has had it for two looks in a row, since editors write in several steps.
//! There are no notifications of the system to rely on: Kubernetes swaps a symlink some levels up, network file
//! systems send none, watches run out, and an access log beside the configuration wakes the watcher at every
//! write (1.6% of the proxy's time under load, measured). Runs on a thread of its own. Depends on `plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::plan::{CertificateFiles, Identify, Jwks, Plan};

/// Time between two looks at every file.
const POLL: Duration = Duration::from_millis(500);

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
    /// When the thread cannot be started.
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
        let mut state = State::new(files);
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

/// What the thread knows of each file.
struct State {
    files: BTreeMap<PathBuf, Known>,
}

/// The content of one file, as hashes.
struct Known {
    /// What it was when it was last reported, or at first. None: it could not be read.
    reported: Option<u64>,
    /// What it was at the last look.
    last: Option<u64>,
}

impl State {
    fn new(files: BTreeSet<PathBuf>) -> Self {
        let mut state = Self {
            files: BTreeMap::new(),
        };
        state.set(files);
        state
    }

    fn run(&mut self, receiver: &Receiver<Message>, poll: Duration, on_change: &dyn Fn(Change)) {
        loop {
            match receiver.recv_timeout(poll) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Files(files)) => self.set(files),
                Err(RecvTimeoutError::Timeout) => {
                    let files = self.look();
                    if !files.is_empty() {
                        on_change(Change { files });
                    }
                }
            }
        }
    }

    fn set(&mut self, files: BTreeSet<PathBuf>) {
        let mut before = std::mem::take(&mut self.files);
        for file in files {
            let known = before.remove(&file).unwrap_or_else(|| {
                let now = content(&file);
                Known {
                    reported: now,
                    last: now,
                }
            });
            self.files.insert(file, known);
        }
    }

    /// Reads every file, and returns those whose content is another than before and the same as at the last
    /// look. One that cannot be read is likely being replaced: it counts when it can be read again.
    fn look(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (file, known) in &mut self.files {
            let now = content(file);
            if now.is_some() && now != known.reported && now == known.last {
                known.reported = now;
                changed.push(file.clone());
            }
            known.last = now;
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
    fn a_file_that_is_being_written_waits_until_it_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, "1").unwrap();
        let mut state = State::new([file.clone()].into());
        for text in ["2", "22", "222"] {
            std::fs::write(&file, text).unwrap();
            assert!(state.look().is_empty());
        }
        assert_eq!(state.look(), std::slice::from_ref(&file));
        assert!(state.look().is_empty());
    }

    #[test]
    fn the_watched_files_can_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "1").unwrap();
        let mut state = State::new([one.clone()].into());
        let look_twice = |state: &mut State| [state.look(), state.look()].concat();
        std::fs::write(&one, "2").unwrap();
        state.set([one.clone(), two.clone()].into());
        assert_eq!(look_twice(&mut state), std::slice::from_ref(&one));
        std::fs::write(&two, "2").unwrap();
        state.set([two.clone()].into());
        assert_eq!(look_twice(&mut state), std::slice::from_ref(&two));
        std::fs::remove_file(&two).unwrap();
        assert!(look_twice(&mut state).is_empty());
        std::fs::write(&two, "2").unwrap();
        assert!(look_twice(&mut state).is_empty());
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
