use serde::Serialize;

/// The middle of several figures, with the least and the greatest.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) };
        Some(Self { median, min, max })
    }

    /// `median (min–max)`, with so many decimals.
    pub(crate) fn show(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

/// `median (min–max)`, or a dash.
pub(crate) fn show(figures: impl IntoIterator<Item = f64>, decimals: usize) -> String {
    Spread::of(figures).map_or_else(|| "–".to_owned(), |spread| spread.show(decimals))
}

/// The figure below which so many hundredths of them lie.
pub(crate) fn percentile(sorted: &[f64], hundredths: usize) -> Option<f64> {
    let at = (sorted.len() * hundredths).div_ceil(100).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).unwrap().show(0), "2 (1–3)");
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().show(1), "2.5 (1.0–4.0)");
        assert!(Spread::of([]).is_none());
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
