use std::{
    fmt::Display,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::sys::signal::{Signal, raise};

/// What is to happen at which points, such as `bridge.committed=kill`, `notifier.calling:17=stop` (only at
/// notification 17) or `activator.claimed=kill@3` (at the third time), with commas between.
const VARIABLE: &str = "TOCSIN_FAILPOINTS";

struct Failpoint {
    point: String,
    key: Option<String>,
    signal: Signal,
    /// How often it is still passed before it strikes; once below one it never does again.
    left: AtomicU32,
}

static FAILPOINTS: LazyLock<Vec<Failpoint>> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "this crate is the one place that reads the environment")]
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    wanted.split(',').filter(|one| !one.is_empty()).map(read).collect()
});

fn read(text: &str) -> Failpoint {
    let (place, action) = text.split_once('=').expect("a failpoint looks like point=kill");
    let (point, key) = place.split_once(':').map_or((place, None), |(point, key)| (point, Some(key.to_owned())));
    let (action, left) = action.split_once('@').unwrap_or((action, "1"));
    let signal = match action {
        "kill" => Signal::SIGKILL,
        "stop" => Signal::SIGSTOP,
        _ => panic!("{VARIABLE}: {action:?} is neither kill nor stop"),
    };
    Failpoint { point: point.to_owned(), key, signal, left: AtomicU32::new(left.parse().expect("a number after @")) }
}

/// See [`crate::failpoint`].
pub(crate) fn reached(point: &str, key: impl Display) {
    let strikes = |one: &Failpoint| {
        one.point == point
            && one.key.as_ref().is_none_or(|wanted| *wanted == key.to_string())
            && one.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1)
    };
    if let Some(one) = FAILPOINTS.iter().find(|one| strikes(one)) {
        // To this thread, not to the process: sent to the process, it is the main thread's to carry out, and until
        // that one runs all others go on, this one too.
        raise(one.signal).expect("a thread can send itself a signal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failpoint_looks_like() {
        let point = read("notifier.calling:17=stop@3");
        assert_eq!((point.point.as_str(), point.key.as_deref()), ("notifier.calling", Some("17")));
        assert_eq!((point.signal, point.left.into_inner()), (Signal::SIGSTOP, 3));
        let point = read("bridge.committed=kill");
        assert_eq!((point.key, point.signal, point.left.into_inner()), (None, Signal::SIGKILL, 1));
    }
}
