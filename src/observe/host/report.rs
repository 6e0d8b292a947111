//! Two samples, told as `sar` tells them: rates, shares and averages of what went on between.

use super::Sample;

/// What went on between two samples.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// The sample it begins with.
    pub from: Sample,
    /// The sample it ends with.
    pub to: Sample,
}

/// A column: its heading, and what is under it.
pub type Column = (&'static str, f64);

#[expect(
    clippy::cast_precision_loss,
    reason = "a share and a rate need no more digits"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
const fn float(number: u64) -> f64 {
    number as f64
}

impl Interval {
    /// How much a counter went up.
    fn up(&self, field: impl Fn(&Sample) -> u64) -> u64 {
        // A counter that goes back has been begun anew.
        field(&self.to).saturating_sub(field(&self.from))
    }

    /// By the second.
    fn rate(&self, field: impl Fn(&Sample) -> u64) -> f64 {
        ratio(self.up(field) * 1_000_000, self.up(|sample| sample.at))
    }

    /// Of the time of all CPUs, in percent.
    fn cpu(&self, field: impl Fn(&Sample) -> u64) -> f64 {
        let all = |one: &Sample| {
            let busy = one.user + one.nice + one.system + one.irq + one.softirq + one.steal;
            busy + one.idle + one.iowait
        };
        ratio(100 * self.up(field), self.up(all))
    }

    /// Of the time, in percent, that tasks waited.
    fn pressure(&self, field: impl Fn(&Sample) -> u64) -> f64 {
        self.rate(field) / 10_000.0
    }

    /// `sar -u`.
    #[must_use]
    pub fn utilisation(&self) -> Vec<Column> {
        vec![
            ("%user", self.cpu(|one| one.user)),
            ("%nice", self.cpu(|one| one.nice)),
            // Interrupts are the system's here, as in sar's short form.
            (
                "%system",
                self.cpu(|one| one.system + one.irq + one.softirq),
            ),
            ("%iowait", self.cpu(|one| one.iowait)),
            ("%steal", self.cpu(|one| one.steal)),
            ("%idle", self.cpu(|one| one.idle)),
        ]
    }

    /// `sar -r`.
    #[must_use]
    pub fn memory(&self) -> Vec<Column> {
        let now = &self.to;
        let cached = now.cached + now.slab;
        let used = now.memory.saturating_sub(now.free + now.buffers + cached);
        let share = |part| 100.0 * ratio(part, now.memory);
        vec![
            ("kbmemfree", float(now.free)),
            ("kbavail", float(now.available)),
            ("kbmemused", float(used)),
            ("%memused", share(used)),
            ("kbbuffers", float(now.buffers)),
            ("kbcached", float(now.cached)),
            ("kbcommit", float(now.committed)),
            (
                "%commit",
                100.0 * ratio(now.committed, now.memory + now.swap),
            ),
            ("kbactive", float(now.active)),
            ("kbinact", float(now.inactive)),
            ("kbdirty", float(now.dirty)),
        ]
    }

    /// `sar -q`.
    #[must_use]
    pub fn queue(&self) -> Vec<Column> {
        let now = &self.to;
        vec![
            // Whoever counts is running as well.
            ("runq-sz", float(now.running.saturating_sub(1))),
            ("plist-sz", float(now.tasks)),
            ("ldavg-1", ratio(now.load1, 100)),
            ("ldavg-5", ratio(now.load5, 100)),
            ("ldavg-15", ratio(now.load15, 100)),
            ("blocked", float(now.blocked)),
        ]
    }

    /// Pressure over the interval: the part of `sar -q PSI` that needs no averages of the kernel's.
    #[must_use]
    pub fn pressures(&self) -> Vec<Column> {
        vec![
            ("%scpu", self.pressure(|one| one.psi_cpu)),
            ("%sio", self.pressure(|one| one.psi_io)),
            ("%fio", self.pressure(|one| one.psi_io_full)),
            ("%smem", self.pressure(|one| one.psi_memory)),
            ("%fmem", self.pressure(|one| one.psi_memory_full)),
        ]
    }

    /// `sar -n DEV`, of the loopback or of all other interfaces together.
    #[must_use]
    pub fn network(&self, loopback: bool) -> Vec<Column> {
        let (rx, tx, rx_bytes, tx_bytes) = if loopback {
            let (packets, bytes) = (
                self.rate(|one| one.lo_packets),
                self.rate(|one| one.lo_bytes),
            );
            (packets, packets, bytes, bytes)
        } else {
            (
                self.rate(|one| one.rx_packets),
                self.rate(|one| one.tx_packets),
                self.rate(|one| one.rx_bytes),
                self.rate(|one| one.tx_bytes),
            )
        };
        vec![
            ("rxpck/s", rx),
            ("txpck/s", tx),
            ("rxkB/s", rx_bytes / 1_024.0),
            ("txkB/s", tx_bytes / 1_024.0),
        ]
    }

    /// `sar -n TCP,ETCP`, in one, with the listeners' overflows.
    #[must_use]
    pub fn tcp(&self) -> Vec<Column> {
        vec![
            ("active/s", self.rate(|one| one.tcp_active)),
            ("passive/s", self.rate(|one| one.tcp_passive)),
            ("iseg/s", self.rate(|one| one.tcp_in)),
            ("oseg/s", self.rate(|one| one.tcp_out)),
            ("retrans/s", self.rate(|one| one.tcp_retransmits)),
            ("orsts/s", self.rate(|one| one.tcp_resets)),
            ("overfl/s", self.rate(|one| one.listen_overflows)),
            ("tcpsck", float(self.to.tcp_sockets)),
        ]
    }

    /// `sar -w`.
    #[must_use]
    pub fn tasks(&self) -> Vec<Column> {
        vec![
            ("proc/s", self.rate(|one| one.forks)),
            ("cswch/s", self.rate(|one| one.switches)),
        ]
    }

    /// `sar -b`, without discards.
    #[must_use]
    pub fn disks(&self) -> Vec<Column> {
        let (reads, writes) = (
            self.rate(|one| one.disk_reads),
            self.rate(|one| one.disk_writes),
        );
        vec![
            ("tps", reads + writes),
            ("rtps", reads),
            ("wtps", writes),
            ("bread/s", self.rate(|one| one.sectors_read)),
            ("bwrtn/s", self.rate(|one| one.sectors_written)),
        ]
    }

    /// The process itself: CPU in percent of one core, memory, descriptors, threads.
    #[must_use]
    pub fn own(&self) -> Vec<Column> {
        let ticks = float(rustix::param::clock_ticks_per_second());
        vec![
            ("%cpu", 100.0 * self.rate(|one| one.own_ticks) / ticks),
            ("kbrss", float(self.to.own_memory)),
            ("files", float(self.to.own_files)),
            ("threads", float(self.to.own_threads)),
            ("file-nr", float(self.to.files)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares_are_of_what_went_on_between() {
        let from = Sample {
            at: 1_000_000,
            user: 100,
            idle: 900,
            psi_cpu: 500_000,
            forks: 7,
            ..Sample::default()
        };
        let to = Sample {
            at: 3_000_000,
            user: 150,
            idle: 1_050,
            psi_cpu: 1_500_000,
            forks: 3,
            running: 3,
            load1: 809,
            ..Sample::default()
        };
        let interval = Interval { from, to };
        let column = |columns: Vec<Column>, name| {
            columns
                .into_iter()
                .find(|(heading, _)| *heading == name)
                .unwrap()
                .1
                .to_string()
        };
        assert_eq!(column(interval.utilisation(), "%user"), "25");
        assert_eq!(column(interval.utilisation(), "%idle"), "75");
        assert_eq!(column(interval.pressures(), "%scpu"), "50");
        assert_eq!(
            column(interval.tasks(), "proc/s"),
            "0",
            "a counter that began anew"
        );
        assert_eq!(column(interval.queue(), "runq-sz"), "2");
        assert_eq!(column(interval.queue(), "ldavg-1"), "8.09");
    }
}
