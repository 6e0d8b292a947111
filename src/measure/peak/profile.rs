//! What is kept of one client: its cost by hour of the week, the last and as a mean.
//!
//! Depends on nothing.

/// Hours of a week.
pub(super) const HOURS: usize = WEEK as usize;
/// The same, as the hours are numbered.
pub(super) const WEEK: u32 = 168;
/// What the newest week counts for in the mean.
const NEWEST: f32 = 0.3;

/// Weeks of absence after which nothing is left of the mean.
const FORGOTTEN: u32 = 8;

/// One client.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// The hour it was first seen in.
    pub(super) since: u32,
    /// The hour it was last seen in,
    pub(super) hour: u32,
    /// and what it has cost in that.
    pub(super) hour_cost: f32,
    week: Option<Box<Week>>,
}

/// Costs by hour of the week, each the upper half of a float.
#[derive(Debug)]
struct Week {
    latest: [u16; HOURS],
    /// The mean of those before.
    usual: [u16; HOURS],
}

impl Profile {
    pub(super) fn since(hour: u32) -> Self {
        Self {
            since: hour,
            hour,
            ..Self::default()
        }
    }

    /// What it cost in `hour`, which lies in the trailing week.
    pub(super) fn spent(&self, hour: u32) -> f64 {
        if hour >= self.hour {
            let running = hour == self.hour;
            return if running { self.hour_cost.into() } else { 0.0 };
        }
        let week = self.week.as_deref();
        week.map_or(0.0, |week| cost(&week.latest, hour).into())
    }

    /// What it cost in this hour of the week before the trailing week.
    pub(super) fn usual(&self, hour: u32) -> f64 {
        let Some(week) = &self.week else { return 0.0 };
        if hour >= self.hour {
            return self.mean(week, hour).into();
        }
        cost(&week.usual, hour).into()
    }

    /// Goes on to `hour`. A cost of `notable` in the one it was last seen in is worth remembering.
    pub(super) fn advance(&mut self, hour: u32, notable: f32) {
        let spent = std::mem::take(&mut self.hour_cost);
        if self.week.is_none() && spent >= notable && notable > 0.0 {
            self.week = Some(Box::new(Week {
                latest: [0; HOURS],
                usual: [0; HOURS],
            }));
        }
        if let Some(mut week) = self.week.take() {
            let ended = self.hour.max(hour.saturating_sub(FORGOTTEN * WEEK));
            for ended in ended..hour {
                let mean = self.mean(&week, ended);
                keep(&mut week.usual, ended, mean);
                let idle = ended != self.hour;
                keep(&mut week.latest, ended, if idle { 0.0 } else { spent });
            }
            self.week = Some(week);
        }
        self.hour = hour;
    }

    /// The mean for an hour that is to end, of those before it.
    fn mean(&self, week: &Week, hour: u32) -> f32 {
        let latest = cost(&week.latest, hour);
        let usual = cost(&week.usual, hour);
        match hour.saturating_sub(self.since) / WEEK {
            0 => 0.0,
            1 => latest,
            _ => usual + NEWEST * (latest - usual),
        }
    }
}

fn cost(hours: &[u16; HOURS], hour: u32) -> f32 {
    let half = hours.get(hour as usize % HOURS).copied().unwrap_or(0);
    f32::from_bits(u32::from(half) << 16)
}

fn keep(hours: &mut [u16; HOURS], hour: u32, cost: f32) {
    if let Some(half) = hours.get_mut(hour as usize % HOURS) {
        *half = u16::try_from(cost.to_bits() >> 16).unwrap_or(0);
    }
}
