//! The tier by itself: what was stored is found again or missed, never altered, and what was purged stays away.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::cache::semantics::Model;
use crate::cache::semantics::vary::Vary;

const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Millis = 1_000_000;

fn open(directory: &Path, size: u64) -> Arc<Disk> {
    let config = CacheDisk {
        path: directory.to_owned(),
        size,
    };
    let disk = Disk::start(&config, Weak::new());
    while disk.state() == State::Opening {
        std::thread::yield_now();
    }
    disk
}

/// Ends it as a process that is told to.
fn end(disk: &Disk) {
    disk.close();
    disk.wait_closed(PATIENCE);
    assert_eq!(disk.state(), State::Closed);
}

fn object(version: usize, tag: &str, selection: &str, length: usize) -> Arc<Object> {
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from(version));
    let model = Model {
        arrived: 0,
        initial_age: 1,
        lifetime: 10 * NOW,
        stale_while_revalidate: 2,
        stale_if_error: 3,
        always_validate: false,
        never_stale: true,
    };
    let mut body = version.to_string().into_bytes();
    body.resize(length.max(body.len()), b'.');
    let names = if selection.is_empty() {
        Vec::new()
    } else {
        vec![http::header::ACCEPT]
    };
    Arc::new(Object {
        head: Arc::new(Head {
            status: StatusCode::IM_A_TEAPOT,
            headers,
            model,
            vary: Vary::restored(names),
            selection: selection.into(),
            tags: [tag.into()].into(),
            took: 7,
            validator: std::sync::OnceLock::new(),
        }),
        body: Bytes::from(body).into(),
        part: None,
        hits: 0.into(),
        charge: None,
    })
}

fn find(disk: &Disk, key: &str) -> Vec<Arc<Object>> {
    disk.still(key, disk.read(key))
}

fn version(object: &Object) -> usize {
    let etag = object.head.headers.get("etag").expect("it was stored");
    let version = etag.to_str().expect("a number").parse();
    let version: usize = version.expect("a number");
    let body = object.body.read().expect("it is in memory");
    let text = String::from_utf8(body.to_vec()).expect("text");
    assert_eq!(text.trim_end_matches('.'), version.to_string());
    version
}

fn purge(disk: &Disk, scope: Scope, soft: bool) {
    let done = disk.purge_durably(scope, soft.then_some(NOW));
    done.blocking_recv().expect("it is on disk");
}

#[test]
fn all_of_a_response_is_there_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let key: Arc<str> = "http://a/x\nx-tenant=1".into();
    let disk = open(directory.path(), 16 << 20);
    let (plain, german) = (object(1, "t", "", 5_000), object(2, "t", "2:de", 10));
    disk.put(&key, &plain);
    disk.put(&key, &german);
    end(&disk);
    let disk = open(directory.path(), 16 << 20);
    let found = find(&disk, &key);
    assert_eq!(found.len(), 2);
    for (found, stored) in found.iter().zip([german, plain]) {
        assert_eq!(found.body.read().unwrap(), stored.body.read().unwrap());
        let (found, stored) = (&found.head, &stored.head);
        assert_eq!(found.status, stored.status);
        assert_eq!(found.headers, stored.headers);
        assert_eq!(found.model, stored.model);
        assert_eq!(found.vary, stored.vary);
        assert_eq!(found.selection, stored.selection);
        assert_eq!(found.tags, stored.tags);
        assert_eq!(found.took, stored.took);
    }
    assert!(
        find(&disk, "http://a/x").is_empty(),
        "another key of the URL"
    );
    end(&disk);
}

#[test]
fn the_oldest_makes_room_and_the_bound_holds_when_it_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = open(directory.path(), 16 << 20);
    let key = |number: usize| -> Arc<str> { format!("http://a/{number}").into() };
    for number in 0..30 {
        disk.put(&key(number), &object(number, "t", "", 1 << 20));
    }
    end(&disk);
    assert!(disk.view().bytes <= 16 << 20);
    let disk = open(directory.path(), 8 << 20);
    assert!(disk.view().bytes <= 8 << 20, "{:?}", disk.view());
    assert!(find(&disk, &key(0)).is_empty());
    assert_eq!(version(&find(&disk, &key(29))[0]), 29);
    end(&disk);
    let there = fs::read_dir(directory.path()).expect("the directory");
    let bytes = there.map(|entry| entry.expect("a file").metadata().expect("a file").len());
    assert!(bytes.sum::<u64>() <= 9 << 20);
}

#[test]
fn a_journal_that_cannot_be_trusted_or_is_gone_takes_everything_with_it() {
    for damage in [
        |journal: &Path| fs::remove_file(journal).expect("it is there"),
        |journal: &Path| {
            let mut bytes = fs::read(journal).expect("it is there");
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(journal, bytes).expect("it is written");
        },
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let (kept, purged): (Arc<str>, Arc<str>) = ("http://a/1".into(), "http://a/2".into());
        let disk = open(directory.path(), 16 << 20);
        disk.put(&kept, &object(1, "t", "", 10));
        disk.put(&purged, &object(1, "u", "", 10));
        purge(&disk, Scope::Tag("u".to_owned()), false);
        end(&disk);
        damage(&directory.path().join("purges"));
        let disk = open(directory.path(), 16 << 20);
        assert_eq!(disk.state(), State::On);
        assert!(find(&disk, &kept).is_empty());
        assert!(find(&disk, &purged).is_empty());
        disk.put(&kept, &object(2, "t", "", 10));
        end(&disk);
        let disk = open(directory.path(), 16 << 20);
        assert_eq!(version(&find(&disk, &kept)[0]), 2);
        end(&disk);
    }
}

#[test]
fn a_directory_that_cannot_be_used_fails_and_takes_no_purge_for_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("a file");
    let disk = open(&file.join("cache"), 16 << 20);
    assert_eq!(disk.state(), State::Failed);
    disk.put(&"http://a/".into(), &object(1, "t", "", 10));
    let done = disk.purge_durably(Scope::Tag("t".to_owned()), None);
    assert!(done.blocking_recv().is_err());
    end(&disk);
}

#[test]
fn what_lies_in_two_processes_hands_waits_for_the_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let key: Arc<str> = "http://a/".into();
    let first = open(directory.path(), 16 << 20);
    first.put(&key, &object(1, "t", "", 10));
    let config = CacheDisk {
        path: directory.path().to_owned(),
        size: 16 << 20,
    };
    let second = Disk::start(&config, Weak::new());
    assert_eq!(second.state(), State::Opening);
    // It is purged before anybody could know that it is there.
    second.purge(url_scope(&key), None);
    end(&first);
    while second.state() == State::Opening {
        std::thread::yield_now();
    }
    assert!(find(&second, &key).is_empty());
    end(&second);
    let third = open(directory.path(), 16 << 20);
    assert!(find(&third, &key).is_empty());
    end(&third);
}

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: usize,
        tag: usize,
        length: usize,
    },
    PurgeUrl(usize, bool),
    PurgePrefix(usize, bool),
    PurgeTag(usize, bool),
    /// As by an unsafe request or an origin's refusal.
    Forget(usize),
    Restart,
    /// What was written last is cut off there, in parts of 256.
    Cut(u8),
    /// A bit of it is another.
    Flip(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_usize;
    prop_oneof![
        8 => (key.clone(), 0..3_usize, 1..20_000_usize)
            .prop_map(|(key, tag, length)| Step::Put { key, tag, length }),
        1 => (key.clone(), any::<bool>()).prop_map(|(key, soft)| Step::PurgeUrl(key, soft)),
        1 => (0..2_usize, any::<bool>()).prop_map(|(part, soft)| Step::PurgePrefix(part, soft)),
        1 => (0..3_usize, any::<bool>()).prop_map(|(tag, soft)| Step::PurgeTag(tag, soft)),
        1 => key.prop_map(Step::Forget),
        2 => Just(Step::Restart),
        1 => any::<u8>().prop_map(Step::Cut),
        1 => any::<u8>().prop_map(Step::Flip),
    ]
}

fn key_of(key: usize) -> Arc<str> {
    format!("http://a/{}/{key}", key % 2).into()
}

/// A stored version, and what was done to it.
#[derive(Clone, Debug)]
struct Known {
    version: usize,
    key: usize,
    tag: usize,
    purged: bool,
    stale: bool,
}

/// Whether a purge is about a version.
type Covers = Box<dyn Fn(&Known) -> bool>;

/// Spoils the newest segment at `at` of 256.
fn spoil(directory: &Path, at: u8, flip: bool) {
    let newest = fs::read_dir(directory)
        .expect("the directory")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .max();
    let Some(newest) = newest else { return };
    let mut bytes = fs::read(&newest).expect("a segment");
    let place = bytes.len() * usize::from(at) / 256;
    if flip {
        // One that was cut at its beginning has nothing left to spoil.
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << (at % 8);
        }
    } else {
        bytes.truncate(place);
    }
    fs::write(&newest, bytes).expect("a segment");
}

/// Runs through `steps`; after each, every key is what was stored last and not purged since, or missed. What was
/// spoiled may be an older version that was not purged either.
fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut disk = open(directory.path(), 16 << 20);
    let mut known: Vec<Known> = Vec::new();
    let mut spoiled = false;
    let mut written = HashMap::new();
    for step in steps {
        let mut covers: Option<(Covers, bool)> = None;
        match step {
            Step::Put { key, tag, length } => {
                let version = known.len();
                let stored = object(version, &format!("t{tag}"), "", length);
                disk.put(&key_of(key), &stored);
                known.push(Known {
                    version,
                    key,
                    tag,
                    purged: false,
                    stale: false,
                });
                written.insert(key, version);
            }
            Step::PurgeUrl(key, soft) => {
                purge(&disk, url_scope(&key_of(key)), soft);
                covers = Some((Box::new(move |known| known.key == key), soft));
            }
            Step::PurgePrefix(part, soft) => {
                purge(&disk, Scope::Prefix(format!("http://a/{part}/")), soft);
                covers = Some((Box::new(move |known| known.key % 2 == part), soft));
            }
            Step::PurgeTag(tag, soft) => {
                purge(&disk, Scope::Tag(format!("t{tag}")), soft);
                covers = Some((Box::new(move |known| known.tag == tag), soft));
            }
            Step::Forget(key) => {
                disk.forget_url(&key_of(key));
                covers = Some((Box::new(move |known| known.key == key), false));
            }
            Step::Restart | Step::Cut(_) | Step::Flip(_) => {
                end(&disk);
                if let Step::Cut(at) | Step::Flip(at) = step {
                    spoiled = true;
                    spoil(directory.path(), at, matches!(step, Step::Flip(_)));
                }
                disk = open(directory.path(), 16 << 20);
            }
        }
        if let Some((covers, soft)) = covers {
            for known in known.iter_mut().filter(|known| covers(known)) {
                known.stale |= soft;
                known.purged |= !soft;
            }
        }
        for (key, newest) in &written {
            let found = find(&disk, &key_of(*key));
            let restarted = matches!(step, Step::Restart);
            if restarted && !spoiled && !known[*newest].purged {
                assert_eq!(found.len(), 1, "key {key} is lost");
            }
            for object in found {
                let version = version(&object);
                let known = &known[version];
                assert_eq!((known.key, known.version), (*key, version));
                assert!(!known.purged, "version {version} of key {key} is back");
                assert!(spoiled || version == *newest, "an older version");
                assert_eq!(object.head.model.is_fresh(NOW), !known.stale);
            }
        }
    }
    end(&disk);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_found_is_what_was_stored_and_nothing_purged_returns(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(steps);
    }

    #[test]
    fn no_damage_makes_another_record(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let stored = object(3, "t", "2:de", 100);
        let body = stored.body.read().expect("it is in memory");
        let mut bytes = record::encode("http://a/", &stored, &body, 9).expect("it fits");
        bytes.extend_from_slice(&body);
        prop_assert!(record::object(Bytes::from(bytes.clone())).is_some());
        let cut = at.index(bytes.len());
        prop_assert!(record::object(Bytes::copy_from_slice(&bytes[..cut])).is_none());
        bytes[cut] ^= 1 << bit;
        prop_assert!(record::object(Bytes::from(bytes)).is_none());
    }
}
