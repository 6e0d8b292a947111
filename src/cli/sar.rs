//! `tidegate sar`: any window of the last day of this machine, in sar's form.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::{Span, Timestamp};

use super::query::QueryArgs;
use super::table::plain;
use super::{USAGE, complain};
use crate::admin::api::{Host, HostRow};
use crate::clock::SystemClock;

/// What to show, and of when.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags as sar has them")]
pub(super) struct SarArgs {
    /// CPU by state; shown when nothing else is asked for.
    #[arg(short = 'u')]
    cpu: bool,
    /// Memory.
    #[arg(short = 'r')]
    memory: bool,
    /// Run queue and load.
    #[arg(short = 'q')]
    queue: bool,
    /// Network: interfaces, or TCP.
    #[arg(short = 'n', value_name = "WHAT")]
    network: Option<Network>,
    /// Processes made, and context switches.
    #[arg(short = 'w')]
    tasks: bool,
    /// Disks.
    #[arg(short = 'b')]
    disks: bool,
    /// Time in which tasks waited for CPU, disk or memory, in percent.
    #[arg(long)]
    pressure: bool,
    /// The proxy's own process.
    #[arg(long)]
    process: bool,
    /// Since when: 10m, 14:30, 14:30:05 (today, UTC) or 2026-01-31T14:30:05Z.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    from: String,
    /// Until when, likewise; now unless told.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Seconds that make a line.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    step: u32,
    #[command(flatten)]
    query: QueryArgs,
}

/// What of the network.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Network {
    /// Interfaces.
    Dev,
    /// TCP.
    Tcp,
}

/// A table: a group of the answer, its columns in sar's order, and what stands before them.
struct Table {
    columns: &'static [&'static str],
    /// Groups, each with what sar calls it.
    groups: &'static [(&'static str, &'static str)],
    /// The heading over that, and its width; none where there is one group only.
    label: Option<(&'static str, usize)>,
}

const CPU: Table = Table {
    columns: &["%user", "%nice", "%system", "%iowait", "%steal", "%idle"],
    groups: &[("cpu", "all")],
    label: Some(("CPU", 8)),
};
const MEMORY: Table = Table {
    columns: &[
        "kbmemfree",
        "kbavail",
        "kbmemused",
        "%memused",
        "kbbuffers",
        "kbcached",
        "kbcommit",
        "%commit",
        "kbactive",
        "kbinact",
        "kbdirty",
    ],
    groups: &[("memory", "")],
    label: None,
};
const QUEUE: Table = Table {
    columns: &[
        "runq-sz", "plist-sz", "ldavg-1", "ldavg-5", "ldavg-15", "blocked",
    ],
    groups: &[("queue", "")],
    label: None,
};
const DEV: Table = Table {
    columns: &["rxpck/s", "txpck/s", "rxkB/s", "txkB/s"],
    groups: &[("loopback", "lo"), ("network", "others")],
    label: Some(("IFACE", 10)),
};
const TCP: Table = Table {
    columns: &[
        "active/s",
        "passive/s",
        "iseg/s",
        "oseg/s",
        "retrans/s",
        "orsts/s",
        "overfl/s",
        "tcpsck",
    ],
    groups: &[("tcp", "")],
    label: None,
};
const TASKS: Table = Table {
    columns: &["proc/s", "cswch/s"],
    groups: &[("tasks", "")],
    label: None,
};
const DISKS: Table = Table {
    columns: &["tps", "rtps", "wtps", "bread/s", "bwrtn/s"],
    groups: &[("disks", "")],
    label: None,
};
const PRESSURE: Table = Table {
    columns: &["%scpu", "%sio", "%fio", "%smem", "%fmem"],
    groups: &[("pressure", "")],
    label: None,
};
const PROCESS: Table = Table {
    columns: &["%cpu", "kbrss", "files", "threads", "file-nr"],
    groups: &[("process", "")],
    label: None,
};

pub(super) fn sar(args: SarArgs) -> ExitCode {
    let now = SystemClock.unix_micros() / 1_000_000;
    let to = args.to.as_deref().map_or(Some(now), |text| time(text, now));
    let (Some(from), Some(to)) = (time(&args.from, now), to) else {
        complain("tidegate: a time is written 10m, 14:30, 14:30:05 or 2026-01-31T14:30:05Z");
        return ExitCode::from(USAGE);
    };
    let asked = [
        (args.cpu, CPU),
        (args.memory, MEMORY),
        (args.queue, QUEUE),
        (matches!(args.network, Some(Network::Dev)), DEV),
        (matches!(args.network, Some(Network::Tcp)), TCP),
        (args.tasks, TASKS),
        (args.disks, DISKS),
        (args.pressure, PRESSURE),
        (args.process, PROCESS),
    ];
    let mut tables: Vec<Table> = asked
        .into_iter()
        .filter_map(|(asked, table)| asked.then_some(table))
        .collect();
    if tables.is_empty() {
        tables.push(CPU);
    }
    let path = format!("/api/v1/host?from={from}&to={to}&step={}", args.step);
    args.query.show(&path, |host: &Host, _| text(host, &tables))
}

/// A time, in seconds since the Unix epoch; a length of time is that long ago.
fn time(text: &str, now: u64) -> Option<u64> {
    let now = Timestamp::from_second(i64::try_from(now).ok()?).ok()?;
    let at = if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else if let Ok(time) = text.parse::<jiff::civil::Time>() {
        let today = jiff::tz::Offset::UTC.to_datetime(now).date();
        let at = today.to_datetime(time);
        jiff::tz::Offset::UTC.to_timestamp(at).ok()?
    } else {
        now.checked_sub(text.parse::<Span>().ok()?).ok()?
    };
    u64::try_from(at.as_second()).ok()
}

fn text(host: &Host, tables: &[Table]) -> String {
    let [kernel, name, machine] = host.system.each_ref().map(|text| plain(text));
    let date = host
        .rows
        .first()
        .and_then(|row| row.at.get(..10))
        .unwrap_or_default();
    let mut out = format!(
        "{kernel} ({name}) \t{date} \t_{machine}_\t({} CPU)\n",
        host.cpus
    );
    for table in tables {
        out.push('\n');
        out.push_str(&heading(host.rows.first().map_or("", clock), table));
        for row in &host.rows {
            for group in table.groups {
                out.push_str(&line(clock(row), table, group, |column| {
                    value(row, group.0, column)
                }));
            }
        }
        for group in table.groups {
            let mean = |column: &str| mean(&host.rows, group.0, column);
            out.push_str(&line("Average:", table, group, mean));
        }
    }
    out
}

/// The time of day a row ended, in UTC.
fn clock(row: &HostRow) -> &str {
    row.at.get(11..19).unwrap_or_default()
}

fn heading(at: &str, table: &Table) -> String {
    let mut line = format!("{at:<11}");
    if let Some((label, width)) = table.label {
        line.push_str(&format!("{label:>width$}"));
    }
    for column in table.columns {
        line.push_str(&format!("{column:>10}"));
    }
    line.push('\n');
    line
}

fn line(at: &str, table: &Table, (_, name): &(&str, &str), value: impl Fn(&str) -> f64) -> String {
    let mut line = format!("{at:<11}");
    if let Some((_, width)) = table.label {
        line.push_str(&format!("{name:>width$}"));
    }
    for column in table.columns {
        let digits = if is_whole(column) { 0 } else { 2 };
        line.push_str(&format!("{:>10.digits$}", value(column)));
    }
    line.push('\n');
    line
}

/// Whether what is under a heading is counted, not measured.
fn is_whole(column: &str) -> bool {
    column.starts_with("kb")
        || matches!(
            column,
            "runq-sz" | "plist-sz" | "blocked" | "tcpsck" | "files" | "threads" | "file-nr"
        )
}

fn value(row: &HostRow, group: &str, column: &str) -> f64 {
    let value = row
        .groups
        .get(group)
        .and_then(|columns| columns.get(column));
    value.copied().unwrap_or(0.0)
}

/// The mean over all rows, each as heavy as it is long.
fn mean(rows: &[HostRow], group: &str, column: &str) -> f64 {
    let (mut sum, mut seconds) = (0.0, 0.0);
    for row in rows {
        sum += value(row, group, column) * row.seconds;
        seconds += row.seconds;
    }
    if seconds > 0.0 { sum / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(at: &str, seconds: f64, user: f64) -> HostRow {
        let cpu = BTreeMap::from([
            ("%user".to_owned(), user),
            ("%idle".to_owned(), 100.0 - user),
        ]);
        HostRow {
            at: at.to_owned(),
            seconds,
            groups: BTreeMap::from([("cpu".to_owned(), cpu)]),
        }
    }

    #[test]
    fn a_window_is_printed_as_sar_prints_it() {
        let host = Host {
            system: ["Linux 6.1".into(), "vm".into(), "x86_64".into()],
            cpus: 2,
            rows: vec![
                row("2026-11-26T18:25:35Z", 1.0, 40.0),
                row("2026-11-26T18:25:38Z", 3.0, 20.0),
            ],
        };
        let expected = "\
Linux 6.1 (vm) \t2026-11-26 \t_x86_64_\t(2 CPU)

18:25:35        CPU     %user     %nice   %system   %iowait    %steal     %idle
18:25:35        all     40.00      0.00      0.00      0.00      0.00     60.00
18:25:38        all     20.00      0.00      0.00      0.00      0.00     80.00
Average:        all     25.00      0.00      0.00      0.00      0.00     75.00
";
        assert_eq!(text(&host, &[CPU]), expected);
    }

    #[test]
    fn times_are_lengths_times_of_day_or_whole() {
        let now = 1_790_000_000;
        assert_eq!(time("10m", now), Some(now - 600));
        assert_eq!(time("14:00", now), Some(now - 800));
        assert_eq!(time("14:13:19", now), Some(now - 1));
        assert_eq!(time("2026-09-21T14:13:20Z", now), Some(now));
        assert_eq!(time("yesterday", now), None);
    }
}
