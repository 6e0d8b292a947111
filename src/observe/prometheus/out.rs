//! Whole families of one kind, written through the encoder.

use std::fmt::Error;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::observe::process::Process;

/// Writes whole families.
pub(super) struct Out<'a>(pub(super) DescriptorEncoder<'a>);

impl Out<'_> {
    pub(super) fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> Result<(), Error> {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            let mut row = metric.encode_family(&labels)?;
            row.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// One counter without labels; nothing when there is no value.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<impl EncodeCounterValue>,
    ) -> Result<(), Error> {
        let Some(value) = value else { return Ok(()) };
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> Result<(), Error> {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// One gauge without labels; nothing when there is no value.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<impl EncodeGaugeValue>,
    ) -> Result<(), Error> {
        let Some(value) = value else { return Ok(()) };
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// The conventional metrics of any process.
    pub(super) fn process(&mut self, process: &Process) -> Result<(), Error> {
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        self.counter(
            "process_cpu",
            "User and system CPU time.",
            seconds,
            process.cpu_seconds,
        )?;
        self.gauge(
            "process_resident_memory",
            "Resident memory.",
            bytes,
            process.resident_bytes,
        )?;
        self.gauge(
            "process_virtual_memory",
            "Address space.",
            bytes,
            process.virtual_bytes,
        )?;
        let help = "Since the Unix epoch.";
        self.gauge(
            "process_start_time",
            help,
            seconds,
            process.start_time_seconds,
        )?;
        self.gauge(
            "process_open_fds",
            "Open file descriptors.",
            None,
            process.open_fds,
        )?;
        self.gauge(
            "process_max_fds",
            "Limit on open file descriptors.",
            None,
            process.max_fds,
        )?;
        self.gauge("process_threads", "Threads.", None, process.threads)
    }
}
