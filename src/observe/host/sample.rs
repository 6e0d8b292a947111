//! One second of the machine: counters as the kernel keeps them, from `/proc`.

use std::fs;

/// Declares the fields of a sample once: in memory, in the ring, and by name.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What the kernel said at one moment. Times are in clock ticks, pressures in microseconds, memory in KiB.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sample {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Sample {
            /// How many numbers a sample has.
            pub const FIELDS: usize = [$(stringify!($name)),+].len();

            /// Its numbers, in order.
            #[must_use]
            pub const fn to_array(&self) -> [u64; Self::FIELDS] {
                [$(self.$name),+]
            }

            /// From its numbers.
            #[must_use]
            pub const fn from_array(numbers: [u64; Self::FIELDS]) -> Self {
                let [$($name),+] = numbers;
                Self { $($name),+ }
            }
        }
    };
}

fields! {
    /// When: microseconds since the Unix epoch.
    at,
    /// CPU: user, without guests.
    user,
    /// CPU: user, niced.
    nice,
    /// CPU: the kernel.
    system,
    /// CPU: idle.
    idle,
    /// CPU: idle while a disk was waited for.
    iowait,
    /// CPU: interrupts.
    irq,
    /// CPU: soft interrupts.
    softirq,
    /// CPU: taken by the hypervisor.
    steal,
    /// Context switches.
    switches,
    /// Processes and threads made.
    forks,
    /// Tasks that run or could.
    running,
    /// Tasks that wait for a disk.
    blocked,
    /// Tasks there are.
    tasks,
    /// Load over one minute, in hundredths.
    load1,
    /// Load over five.
    load5,
    /// Load over fifteen.
    load15,
    /// Memory there is.
    memory,
    /// Memory nobody uses.
    free,
    /// Memory that could be had.
    available,
    /// Memory of buffers.
    buffers,
    /// Memory of the page cache.
    cached,
    /// Kernel memory.
    slab,
    /// Memory promised.
    committed,
    /// Memory used lately.
    active,
    /// Memory not used lately.
    inactive,
    /// Memory to be written.
    dirty,
    /// Swap space there is.
    swap,
    /// Swap space nobody uses.
    swap_free,
    /// Pressure: some task waited for a CPU.
    psi_cpu,
    /// Pressure: some task waited for a disk.
    psi_io,
    /// Pressure: all tasks did.
    psi_io_full,
    /// Pressure: some task waited for memory.
    psi_memory,
    /// Pressure: all tasks did.
    psi_memory_full,
    /// Disk requests read.
    disk_reads,
    /// Disk requests written.
    disk_writes,
    /// Sectors read.
    sectors_read,
    /// Sectors written.
    sectors_written,
    /// Network: packets received, but for the loopback.
    rx_packets,
    /// Network: bytes received.
    rx_bytes,
    /// Network: packets sent.
    tx_packets,
    /// Network: bytes sent.
    tx_bytes,
    /// Network: packets dropped, either way.
    net_drops,
    /// Loopback: packets received, which are those sent.
    lo_packets,
    /// Loopback: bytes.
    lo_bytes,
    /// TCP: connections opened to others.
    tcp_active,
    /// TCP: connections accepted.
    tcp_passive,
    /// TCP: segments received.
    tcp_in,
    /// TCP: segments sent.
    tcp_out,
    /// TCP: segments sent again.
    tcp_retransmits,
    /// TCP: resets sent.
    tcp_resets,
    /// TCP: connections that overflowed a listener's queue.
    listen_overflows,
    /// Sockets of TCP in use.
    tcp_sockets,
    /// Files open.
    files,
    /// This process: CPU time, user and system.
    own_ticks,
    /// This process: resident memory.
    own_memory,
    /// This process: descriptors open.
    own_files,
    /// This process: threads.
    own_threads,
}

impl Sample {
    /// Reads everything now, which is `at`.
    #[must_use]
    pub fn read(at: u64) -> Self {
        let mut sample = Self {
            at,
            ..Self::default()
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        sample.stat(&read("/proc/stat"));
        sample.load(&read("/proc/loadavg"));
        sample.memory(&read("/proc/meminfo"));
        sample.disks(&read("/proc/diskstats"));
        sample.network(&read("/proc/net/dev"));
        sample.tcp(
            &read("/proc/net/snmp"),
            &read("/proc/net/netstat"),
            &read("/proc/net/sockstat"),
        );
        (sample.psi_cpu, _) = pressure(&read("/proc/pressure/cpu"));
        (sample.psi_io, sample.psi_io_full) = pressure(&read("/proc/pressure/io"));
        (sample.psi_memory, sample.psi_memory_full) = pressure(&read("/proc/pressure/memory"));
        sample.files = numbers(&read("/proc/sys/fs/file-nr")).next().unwrap_or(0);
        sample.own(&read("/proc/self/stat"));
        sample
    }

    fn stat(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(' ') else {
                continue;
            };
            let mut values = numbers(rest);
            let mut next = || values.next().unwrap_or(0);
            match key {
                "cpu" => {
                    let (user, nice) = (next(), next());
                    (self.system, self.idle, self.iowait) = (next(), next(), next());
                    (self.irq, self.softirq, self.steal) = (next(), next(), next());
                    // Guests are counted with the user's time as well.
                    self.user = user.saturating_sub(next());
                    self.nice = nice.saturating_sub(next());
                }
                "ctxt" => self.switches = next(),
                "processes" => self.forks = next(),
                "procs_running" => self.running = next(),
                "procs_blocked" => self.blocked = next(),
                _ => {}
            }
        }
    }

    fn load(&mut self, text: &str) {
        let mut words = text.split_ascii_whitespace();
        let mut load = || {
            let digits: String = words.next()?.chars().filter(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let loads = [load(), load(), load()];
        [self.load1, self.load5, self.load15] = loads.map(Option::unwrap_or_default);
        let tasks = words
            .next()
            .and_then(|word| word.split_once('/')?.1.parse().ok());
        self.tasks = tasks.unwrap_or(0);
    }

    fn memory(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(':') else {
                continue;
            };
            let field = match key {
                "MemTotal" => &mut self.memory,
                "MemFree" => &mut self.free,
                "MemAvailable" => &mut self.available,
                "Buffers" => &mut self.buffers,
                "Cached" => &mut self.cached,
                "Slab" => &mut self.slab,
                "Committed_AS" => &mut self.committed,
                "Active" => &mut self.active,
                "Inactive" => &mut self.inactive,
                "Dirty" => &mut self.dirty,
                "SwapTotal" => &mut self.swap,
                "SwapFree" => &mut self.swap_free,
                _ => continue,
            };
            *field = numbers(rest).next().unwrap_or(0);
        }
    }

    fn disks(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let Some(name) = words.get(2) else { continue };
            if !is_whole_disk(name) {
                continue;
            }
            let number = |at: usize| {
                words
                    .get(at)
                    .and_then(|word| word.parse().ok())
                    .unwrap_or(0)
            };
            self.disk_reads += number(3);
            self.sectors_read += number(5);
            self.disk_writes += number(7);
            self.sectors_written += number(9);
        }
    }

    fn network(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, rest)) = line.split_once(':') else {
                continue;
            };
            let values: Vec<u64> = numbers(rest).collect();
            let value = |at: usize| values.get(at).copied().unwrap_or(0);
            if name.trim() == "lo" {
                (self.lo_bytes, self.lo_packets) = (value(0), value(1));
                continue;
            }
            self.rx_bytes += value(0);
            self.rx_packets += value(1);
            self.tx_bytes += value(8);
            self.tx_packets += value(9);
            self.net_drops += value(3) + value(11);
        }
    }

    fn tcp(&mut self, snmp: &str, netstat: &str, sockstat: &str) {
        let tcp = |key| column(snmp, "Tcp:", key);
        self.tcp_active = tcp("ActiveOpens");
        self.tcp_passive = tcp("PassiveOpens");
        self.tcp_in = tcp("InSegs");
        self.tcp_out = tcp("OutSegs");
        self.tcp_retransmits = tcp("RetransSegs");
        self.tcp_resets = tcp("OutRsts");
        self.listen_overflows = column(netstat, "TcpExt:", "ListenOverflows");
        let line = sockstat
            .lines()
            .find_map(|line| line.strip_prefix("TCP: inuse "));
        self.tcp_sockets = line.and_then(|line| numbers(line).next()).unwrap_or(0);
    }

    fn own(&mut self, stat: &str) {
        const FDS: &str = "/proc/self/fd";
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<u64> = fields
            .split_ascii_whitespace()
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        // Numbered from 1 in proc(5); the first after the name is the third.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        self.own_ticks = field(14) + field(15);
        self.own_threads = field(20);
        self.own_memory = field(24) * (rustix::param::page_size() as u64 / 1_024);
        // Newer kernels (6.2 on) tell the number as the directory's size; of others the entries are counted.
        self.own_files = match fs::metadata(FDS).map_or(0, |fds| fds.len()) {
            0 => fs::read_dir(FDS).map_or(0, |entries| entries.count() as u64),
            open => open,
        };
    }
}

fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
}

/// Microseconds that some and that all tasks waited.
fn pressure(text: &str) -> (u64, u64) {
    let total = |kind: &str| {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        line.rsplit_once("total=")?.1.trim().parse().ok()
    };
    (total("some").unwrap_or(0), total("full").unwrap_or(0))
}

/// The value under the heading `key` of the two lines that begin with `kind`.
fn column(text: &str, kind: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(kind));
    let (Some(headings), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = headings
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace());
    let value = pairs.find(|(heading, _)| *heading == key);
    value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Whether a block device is a disk, and neither a part of one nor made of others.
fn is_whole_disk(name: &str) -> bool {
    let ends_in_a_letter = name.ends_with(|c: char| c.is_ascii_alphabetic());
    let lettered = ["sd", "vd", "xvd", "hd"]
        .iter()
        .any(|kind| name.starts_with(kind));
    let numbered = ["nvme", "mmcblk"].iter().any(|kind| name.starts_with(kind));
    let part = name.rsplit_once('p').is_some_and(|(disk, part)| {
        disk.ends_with(|c: char| c.is_ascii_digit()) && part.parse::<u32>().is_ok()
    });
    lettered && ends_in_a_letter || numbered && !part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_by_their_headings() {
        let mut sample = Sample::default();
        sample.stat("cpu  100 5 30 1000 7 1 2 3 40 1\ncpu0 1 1 1\nctxt 99\nprocesses 12\nprocs_running 3\nprocs_blocked 1\n");
        assert_eq!((sample.user, sample.nice, sample.steal), (60, 4, 3));
        assert_eq!((sample.switches, sample.forks, sample.running), (99, 12, 3));
        sample.load("8.09 7.61 15.76 4/168 4242\n");
        assert_eq!(
            (sample.load1, sample.load15, sample.tasks),
            (809, 1_576, 168)
        );
        sample.disks("254 0 vda 10 0 80 0 5 0 40 0\n254 1 vda1 9 0 72 0 5 0 40 0\n259 0 nvme0n1 1 0 8 0 1 0 8 0\n259 1 nvme0n1p1 1 0 8 0 1 0 8 0\n7 0 loop0 3 0 3 0 3 0 3 0\n");
        assert_eq!((sample.disk_reads, sample.sectors_read), (11, 88));
        sample.network("h|\n lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\neth0: 100 2 0 3 0 0 0 0 200 4 0 5 0 0 0 0\n");
        assert_eq!(
            (sample.lo_bytes, sample.rx_bytes, sample.tx_bytes),
            (10, 100, 200)
        );
        assert_eq!(
            (sample.rx_packets, sample.tx_packets, sample.net_drops),
            (2, 4, 8)
        );
        sample.tcp(
            "Ip: A\nIp: 1\nTcp: MaxConn ActiveOpens RetransSegs\nTcp: -1 5 6\n",
            "TcpExt: ListenOverflows\nTcpExt: 4\n",
            "sockets: used 1\nTCP: inuse 17 orphan 0\n",
        );
        assert_eq!((sample.tcp_active, sample.tcp_retransmits), (5, 6));
        assert_eq!((sample.listen_overflows, sample.tcp_sockets), (4, 17));
        let text = "some avg10=0.00 total=500\nfull avg10=0.00 total=20\n";
        assert_eq!(pressure(text), (500, 20));
    }

    #[test]
    fn this_machine_can_be_read() {
        let sample = Sample::read(1);
        assert!(sample.idle > 0 && sample.memory > sample.free && sample.switches > 0);
        assert!(sample.own_memory > 0 && sample.own_files > 2 && sample.own_threads > 0);
        assert_eq!(Sample::from_array(sample.to_array()), sample);
    }
}
