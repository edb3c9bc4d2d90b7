use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::Health;

/// What a program's tasks share: when to stop, and how it goes.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// Begin nothing new; end what is in flight.
    pub stop: CancellationToken,
    /// What of the program works.
    pub health: Health,
    panicked: mpsc::UnboundedSender<&'static str>,
}

impl Lifecycle {
    /// Beside it comes the list of tasks that have panicked.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<&'static str>) {
        let (panicked, panics) = mpsc::unbounded_channel();
        (Self { stop: CancellationToken::new(), health: Health::default(), panicked }, panics)
    }

    /// Starts a task that the program can't do without: if it panics, the program ends, with exit code 70, instead of
    /// living on and doing nothing.
    pub fn spawn<T>(&self, name: &'static str, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T>
    where
        T: Send + 'static,
    {
        let panicked = self.panicked.clone();
        tokio::spawn(async move {
            let mut alarm = Alarm { name, panicked, armed: true };
            let done = task.await;
            alarm.armed = false;
            done
        })
    }

    /// Waits, or until the program is to stop. True if it is to go on.
    pub async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.stop.cancelled() => false,
        }
    }
}

/// Goes off when it is dropped by a panic.
struct Alarm {
    name: &'static str,
    panicked: mpsc::UnboundedSender<&'static str>,
    armed: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed && std::thread::panicking() {
            // Without a listener the program is ending already.
            self.panicked.send(self.name).unwrap_or_default();
        }
    }
}

/// Ends when the program has to end at once: at a second signal, or `limit` after the first, which cancels `stop`.
pub(crate) async fn watch_signals(stop: CancellationToken, limit: Duration) -> io::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let which = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(event = "stopping", signal = which, "stopping: nothing new begins, what is in flight ends");
    stop.cancel();
    Ok(tokio::select! {
        _ = terminate.recv() => "a second signal",
        _ = interrupt.recv() => "a second signal",
        () = tokio::time::sleep(limit) => "shutdown.timeout_seconds",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_task_is_told_and_an_ordinary_end_is_not() {
        let (lifecycle, mut panics) = Lifecycle::new();
        lifecycle.spawn("quiet", async {}).await.expect("it ends");
        assert!(lifecycle.spawn("loud", async { panic!("on purpose") }).await.is_err());
        assert_eq!(panics.recv().await, Some("loud"));
        assert!(panics.try_recv().is_err());
    }
}
