//! A line through the throughput near one concurrency, on logarithmic scales: its slope is the elasticity.
//!
//! Weighted least squares over the last windows. Old windows fade, and so do those at another concurrency:
//! the curve bends at the very place that is looked for.

/// Windows remembered.
const WINDOWS: usize = 40;

/// What is left of a window's weight with each later one.
const FADING: f64 = 0.95;

/// The width of the neighbourhood, as a ratio of concurrencies on the logarithmic scale.
const WIDTH: f64 = 0.3;

/// One window on logarithmic scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    ln_concurrency: f64,
    ln_throughput: f64,
}

impl Point {
    pub(super) fn new(concurrency: f64, throughput: f64) -> Self {
        Self {
            ln_concurrency: concurrency.ln(),
            ln_throughput: throughput.ln(),
        }
    }

    pub(super) fn concurrency(&self) -> f64 {
        self.ln_concurrency.exp()
    }

    /// Its logarithm.
    pub(super) const fn throughput(&self) -> f64 {
        self.ln_throughput
    }

    /// The elasticity between two points, each with this noise, and its standard error.
    pub(super) fn elasticity_to(&self, other: &Self, noise: f64) -> (f64, f64) {
        let apart = other.ln_concurrency - self.ln_concurrency;
        if apart.abs() < 0.05 {
            return (0.0, f64::INFINITY);
        }
        let slope = (other.ln_throughput - self.ln_throughput) / apart;
        (slope, noise * std::f64::consts::SQRT_2 / apart.abs())
    }
}

/// The line at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) slope: f64,
    /// The slope's standard error.
    pub(super) error: f64,
}

/// The last windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Fit {
    points: Vec<(Point, f64)>,
}

/// Weighted sums of the least squares.
struct Sums {
    effective: f64,
    mean_x: f64,
    mean_y: f64,
    spread: f64,
    slope: f64,
    /// Weighted mean square of the residuals.
    residual: f64,
}

impl Fit {
    /// Lets everything fade.
    pub(super) fn age(&mut self) {
        for (_, weight) in &mut self.points {
            *weight *= FADING;
        }
    }

    pub(super) fn add(&mut self, point: Point) {
        if self.points.len() == WINDOWS {
            self.points.remove(0);
        }
        self.points.push((point, 1.0));
    }

    /// The line near `at`; none before there are three windows to lay it through.
    pub(super) fn line(&self, at: &Point) -> Option<Line> {
        let sums = self.sums(at)?;
        let freedom = (sums.effective - 2.0).max(0.5);
        let variance = sums.residual * sums.effective / freedom;
        let error = (variance / (sums.spread * sums.effective)).sqrt();
        Some(Line {
            slope: sums.slope.clamp(-1.0, 1.2),
            error,
        })
    }

    /// What the line says of the throughput's logarithm at the concurrency of `at`, and how far windows are
    /// off the line. None before there are enough windows.
    pub(super) fn predict(&self, at: &Point) -> Option<(f64, f64)> {
        let sums = self.sums(at).filter(|sums| sums.effective >= 3.0)?;
        let away = (at.ln_concurrency - sums.mean_x).clamp(-0.5, 0.5);
        let slope = sums.slope.clamp(0.0, 1.0);
        let expected = slope.mul_add(away, sums.mean_y);
        Some((expected, sums.residual.sqrt()))
    }

    fn sums(&self, at: &Point) -> Option<Sums> {
        let weighed = || {
            self.points.iter().map(|(point, weight)| {
                let away = (point.ln_concurrency - at.ln_concurrency) / WIDTH;
                let near = (-0.5 * away * away).exp().max(1e-6);
                (point, weight * near)
            })
        };
        let weight: f64 = weighed().map(|(_, w)| w).sum();
        let squares: f64 = weighed().map(|(_, w)| w * w).sum();
        if self.points.len() < 3 || weight <= 0.0 {
            return None;
        }
        let mean = |of: fn(&Point) -> f64| weighed().map(|(p, w)| w * of(p)).sum::<f64>() / weight;
        let mean_x = mean(|point| point.ln_concurrency);
        let mean_y = mean(|point| point.ln_throughput);
        let (mut spread, mut joint) = (0.0, 0.0);
        for (point, w) in weighed() {
            let x = point.ln_concurrency - mean_x;
            spread += w * x * x;
            joint += w * x * (point.ln_throughput - mean_y);
        }
        spread = (spread / weight).max(1e-6);
        let slope = joint / weight / spread;
        let off = |point: &Point| {
            slope.mul_add(mean_x - point.ln_concurrency, point.ln_throughput - mean_y)
        };
        let residual = weighed().map(|(p, w)| w * off(p).powi(2)).sum::<f64>() / weight;
        Some(Sums {
            effective: weight * weight / squares,
            mean_x,
            mean_y,
            spread,
            slope,
            residual: residual.max(1e-5),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_straight_line_is_found_and_a_bend_is_local() {
        let mut fit = Fit::default();
        // Throughput follows up to ten and no further.
        for n in [4.0, 5.0, 6.0, 7.0, 8.0, 20.0, 22.0, 24.0, 26.0_f64] {
            fit.add(Point::new(n, 20.0 * n.min(10.0)));
        }
        let below = fit.line(&Point::new(5.0, 100.0)).unwrap();
        let above = fit.line(&Point::new(24.0, 200.0)).unwrap();
        assert!((below.slope - 1.0).abs() < 0.02, "{below:?}");
        assert!(above.slope.abs() < 0.1, "{above:?}");
        let (expected, _) = fit.predict(&Point::new(23.0, 1.0)).unwrap();
        assert!((expected - 200_f64.ln()).abs() < 0.05);
    }

    #[test]
    fn two_windows_make_no_line() {
        let mut fit = Fit::default();
        fit.add(Point::new(1.0, 1.0));
        fit.add(Point::new(2.0, 2.0));
        assert_eq!(fit.line(&Point::new(1.0, 1.0)), None);
    }
}
