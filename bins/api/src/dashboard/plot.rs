use jiff::Timestamp;
use store::MinuteLateness;

use super::overview::seconds;

const MINUTES: usize = 60;

/// The height of the plot, in its own units.
const HEIGHT: f64 = 100.0;

/// How late it was, minute by minute of the last hour, as bars.
pub(super) struct Plot {
    pub(super) bars: Vec<Bar>,
    /// What the plot says, for those who can't see it.
    pub(super) summary: String,
    /// The lines across, from the top: where, and what it means.
    pub(super) lines: Vec<(f64, String)>,
}

/// A minute.
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) words: String,
}

impl Plot {
    /// `now` is the database's time, as it stands in answers.
    pub(super) fn new(minutes: &[MinuteLateness], now: &str) -> Self {
        let now: Timestamp = now.parse().unwrap_or_default();
        let this_minute = now.as_second().div_euclid(60);
        let worst = minutes.iter().map(|minute| minute.p99).fold(0.0, f64::max);
        let top = scale(worst);
        let bar = |minute: &MinuteLateness| {
            let ago = usize::try_from(this_minute - minute.minute.as_second().div_euclid(60)).ok()?;
            let MinuteLateness { count, p50, p99, .. } = minute;
            let words = format!(
                "{} min ago: half of {count} within {}, 99 of 100 within {}",
                ago,
                seconds(*p50),
                seconds(*p99)
            );
            let height = |value: f64| (value / top * HEIGHT).clamp(1.0, HEIGHT);
            Some(Bar { x: MINUTES.checked_sub(ago)?, p50: height(*p50), p99: height(*p99), words })
        };
        let count: i64 = minutes.iter().map(|minute| minute.count).sum();
        let summary = if count == 0 {
            "Nothing was sent in the last hour.".to_owned()
        } else {
            let newest = minutes.last().map_or_else(String::new, |minute| {
                let ago = (this_minute - minute.minute.as_second().div_euclid(60)).max(0);
                let when = if ago == 0 { "Now".to_owned() } else { format!("{ago} min ago") };
                format!("{when} half within {}, 99 of 100 within {}; ", seconds(minute.p50), seconds(minute.p99))
            });
            format!("{newest}in the worst minute {}. {count} first calls.", seconds(worst))
        };
        let lines = [1.0, 0.5].map(|part| ((1.0 - part) * HEIGHT, seconds(top * part))).to_vec();
        Self { bars: minutes.iter().filter_map(bar).collect(), summary, lines }
    }
}

/// The next round number of seconds, at least 10 ms.
fn scale(worst: f64) -> f64 {
    let mut top = 0.01;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if top >= worst {
            break;
        }
        top *= factor;
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(at: &str, p50: f64, p99: f64) -> MinuteLateness {
        MinuteLateness { minute: at.parse().unwrap(), count: 100, p50, p99 }
    }

    #[test]
    fn the_plot_has_a_bar_for_each_minute_that_sent_something_and_the_worst_fits() {
        let minutes = [minute("2026-11-22T12:00:00Z", 0.002, 0.004), minute("2026-11-22T12:58:00Z", 1.0, 4.2)];
        let plot = Plot::new(&minutes, "2026-11-22T12:59:30.000Z");
        assert_eq!(plot.bars.iter().map(|bar| bar.x).collect::<Vec<_>>(), [1, 59]);
        assert!((plot.bars[1].p99 - 84.0).abs() < 0.1 && (plot.bars[0].p99 - 1.0).abs() < 0.1);
        assert_eq!(plot.lines[0], (0.0, "5.0 s".to_owned()));
        assert!(
            plot.summary
                .contains("1 min ago half within 1.0 s, 99 of 100 within 4.2 s; in the worst minute 4.2 s. 200 first"),
            "{}",
            plot.summary
        );
        assert!(Plot::new(&[], "2026-11-22T12:59:30Z").summary.contains("Nothing was sent"));
    }
}
