//! The process itself, as the kernel sees it: `process_*` from `/proc/self`.
//!
//! A value that cannot be read is left out; on a system without `/proc` all of them are. Depends on rustix
//! for the clock tick and the page size.

use std::fs;

/// What the kernel says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system CPU time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit on open file descriptors; none when unlimited.
    pub max_fds: Option<u64>,
    /// When it started, in seconds since the Unix epoch.
    pub start_time_seconds: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Process {
    /// Reads the values now.
    #[must_use]
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let mut process = Self::parse(
            &stat,
            &boot,
            &limits,
            rustix::param::clock_ticks_per_second(),
            rustix::param::page_size() as u64,
        );
        // The directory handle that lists them is one of them, as everywhere.
        let fds = fs::read_dir("/proc/self/fd").ok();
        process.open_fds = fds.map(|entries| entries.count() as u64);
        process
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks stay below 2^53 for a million years"
    )]
    fn parse(stat: &str, boot: &str, limits: &str, ticks: u64, page: u64) -> Self {
        // The command's name, in brackets, may hold blanks and brackets.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .unwrap_or_default();
        // Numbered from 1 in proc(5); the first after the name is the third.
        let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
        let seconds = |value: u64| value as f64 / ticks as f64;
        let booted = boot.lines().find_map(|line| line.strip_prefix("btime "));
        let booted: Option<u64> = booted.and_then(|text| text.trim().parse().ok());
        let max_fds = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(u, s)| seconds(u + s)),
            resident_bytes: field(24).map(|pages| pages * page),
            virtual_bytes: field(23),
            open_fds: None,
            max_fds: max_fds.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()),
            start_time_seconds: booted.zip(field(22)).map(|(b, s)| b as f64 + seconds(s)),
            threads: field(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 1000 8192000 300 18446744073709551615";
        let process = Process::parse(
            stat,
            "cpu 1\nbtime 1700000000\n",
            "Limit  Soft\nMax open files            1024                 524288               files\n",
            100,
            4_096,
        );
        let expected = Process {
            cpu_seconds: Some(2.0),
            resident_bytes: Some(300 * 4_096),
            virtual_bytes: Some(8_192_000),
            open_fds: None,
            max_fds: Some(1_024),
            start_time_seconds: Some(1_700_000_010.0),
            threads: Some(9),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(Process::parse("", "", "", 100, 4_096), Process::default());
    }

    #[test]
    fn this_process_can_be_read() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(0));
        assert!(process.open_fds > Some(2));
        assert!(process.threads > Some(0));
        assert!(process.start_time_seconds > Some(1.5e9));
    }
}
