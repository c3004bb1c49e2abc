//! Medians, percentiles and means of what was measured.

use std::time::Duration;

use serde::Serialize;

/// Several rounds of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle round, or the mean of the two middle ones.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// Summarises the rounds, if there are any.
pub(crate) fn summarise(figures: impl IntoIterator<Item = f64>) -> Option<Summary> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let (min, max) = (*figures.first()?, *figures.last()?);
    let upper = figures[figures.len() / 2];
    let lower = figures[(figures.len() - 1) / 2];
    Some(Summary {
        median: f64::midpoint(lower, upper),
        min,
        max,
    })
}

/// The geometric mean, of ratios; `None` of nothing.
pub(crate) fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    if ratios.is_empty() {
        return None;
    }
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    Some((logarithms / ratios.len() as f64).exp())
}

/// The smallest duration that at least that share of the sorted durations does not exceed
/// (nearest rank).
///
/// # Panics
/// When there are no durations.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Summary, geometric_mean, percentile, summarise};

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(
            summarise([3.0, 1.0, 2.0]),
            Some(Summary {
                median: 2.0,
                min: 1.0,
                max: 3.0
            })
        );
        assert_eq!(
            summarise([4.0, 1.0]),
            Some(Summary {
                median: 2.5,
                min: 1.0,
                max: 4.0
            })
        );
        assert_eq!(summarise([]), None);
    }

    #[test]
    fn geometric_mean_of_ratios() {
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&sorted, 0.5), Duration::from_micros(500));
        assert_eq!(percentile(&sorted, 0.999), Duration::from_micros(999));
        assert_eq!(percentile(&sorted[..1], 0.999), Duration::from_micros(1));
    }
}
