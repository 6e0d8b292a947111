//! A ring of samples, in a file or in memory.
//!
//! Each record has its place by its second, so a gap overwrites nothing but what is a day old, and a process that
//! starts anew goes on where the last one was. A record that was half written, and one of another round, shows by
//! its time. The file is written at one place a second and read only when somebody asks.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Sample;

/// A sample, and its check.
const RECORD: usize = (Sample::FIELDS + 1) * 8;

/// Samples of the last while.
#[derive(Debug)]
pub struct Ring {
    keeps: usize,
    place: Place,
    last: Option<Sample>,
}

#[derive(Debug)]
enum Place {
    Memory(VecDeque<Sample>),
    File(File),
}

impl Ring {
    /// A ring of the last `keeps` seconds that ends with the process.
    #[must_use]
    pub fn in_memory(keeps: usize) -> Self {
        Self {
            keeps,
            place: Place::Memory(VecDeque::new()),
            last: None,
        }
    }

    /// A ring of the last `keeps` seconds at `path`, with what is in it.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn open(path: &Path, keeps: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o640).open(path)?;
        let place = Place::File(file);
        Ok(Self {
            keeps,
            place,
            last: None,
        })
    }

    /// Keeps `sample`. A disk that is full loses it.
    pub fn push(&mut self, sample: &Sample) {
        self.last = Some(*sample);
        match &mut self.place {
            Place::Memory(samples) => {
                if samples.len() == self.keeps {
                    samples.pop_front();
                }
                samples.push_back(*sample);
            }
            Place::File(file) => {
                let slot = second(sample) % self.keeps as u64;
                let written = file.write_all_at(&encode(sample), slot * RECORD as u64);
                if let Err(error) = written {
                    tracing::debug!(%error, "a sample of the host is lost");
                }
            }
        }
    }

    /// Those from second `from` to second `to`, the oldest first.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Vec<Sample> {
        let within = |sample: &Sample| (from..=to).contains(&second(sample));
        match &self.place {
            Place::Memory(samples) => samples.iter().filter(|one| within(one)).copied().collect(),
            Place::File(file) => {
                // Neither older than what is kept nor newer than now: a day of seconds at most.
                let newest = self.last.as_ref().map_or(0, second);
                let first = from.max(newest.saturating_sub(self.keeps as u64 - 1));
                let seconds = first..=to.min(newest);
                seconds
                    .filter_map(|at| read(file, at, self.keeps))
                    .collect()
            }
        }
    }
}

const fn second(sample: &Sample) -> u64 {
    sample.at / 1_000_000
}

fn read(file: &File, at: u64, keeps: usize) -> Option<Sample> {
    let mut record = [0; RECORD];
    let slot = at % keeps as u64;
    file.read_exact_at(&mut record, slot * RECORD as u64).ok()?;
    decode(&record).filter(|sample| second(sample) == at)
}

fn check(numbers: &[u64]) -> u64 {
    // Any mixture that a torn write does not meet by chance.
    numbers.iter().fold(0x9E37_79B9_7F4A_7C15, |sum, number| {
        (sum.rotate_left(7) ^ number).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    })
}

fn encode(sample: &Sample) -> Vec<u8> {
    let numbers = sample.to_array();
    let all = numbers.iter().copied().chain([check(&numbers)]);
    all.flat_map(u64::to_le_bytes).collect()
}

fn decode(record: &[u8; RECORD]) -> Option<Sample> {
    let (words, _) = record.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut numbers = [0; Sample::FIELDS];
    for number in &mut numbers {
        *number = words.next()?;
    }
    (words.next()? == check(&numbers)).then_some(Sample::from_array(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Sample {
        Sample {
            at: second * 1_000_000 + 123,
            user: second,
            ..Sample::default()
        }
    }

    fn seconds(samples: &[Sample]) -> Vec<u64> {
        samples.iter().map(second).collect()
    }

    #[test]
    fn a_ring_keeps_the_newest_with_their_gaps_and_survives_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.ring");
        let mut ring = Ring::open(&path, 10).unwrap();
        for second in (100..108).chain(110..115) {
            ring.push(&at(second));
        }
        let kept = [105, 106, 107, 110, 111, 112, 113, 114];
        assert_eq!(seconds(&ring.between(0, u64::MAX)), kept);
        assert_eq!(seconds(&ring.between(107, 111)), [107, 110, 111]);
        assert!(std::fs::metadata(&path).unwrap().len() <= 10 * RECORD as u64);
        drop(ring);
        let mut ring = Ring::open(&path, 10).unwrap();
        ring.push(&at(115));
        assert_eq!(
            seconds(&ring.between(0, u64::MAX)),
            [106, 107, 110, 111, 112, 113, 114, 115]
        );
        assert_eq!(ring.between(110, 110), [at(110)]);
    }

    #[test]
    fn a_torn_record_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.ring");
        let mut ring = Ring::open(&path, 10).unwrap();
        for second in 100..103 {
            ring.push(&at(second));
        }
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[1], RECORD as u64 + 16).unwrap();
        assert_eq!(seconds(&ring.between(0, 200)), [100, 102]);
    }

    #[test]
    fn memory_keeps_as_many() {
        let mut ring = Ring::in_memory(10);
        (0..25).for_each(|second| ring.push(&at(second)));
        assert_eq!(seconds(&ring.between(0, 20)), [15, 16, 17, 18, 19, 20]);
    }
}
