use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use anyhow::{Result, bail};

/// Ctrl-C, or a signal to end.
pub(crate) struct Interrupt(pub(crate) Receiver<()>);

impl Interrupt {
    /// Takes over the handling of both.
    pub(crate) fn catch() -> Result<Self> {
        let (sender, receiver) = channel();
        ctrlc::set_handler(move || sender.send(()).unwrap_or_default())?;
        Ok(Self(receiver))
    }

    /// Waits for it.
    pub(crate) fn wait(&self) {
        // The sender lives as long as the handler, which is never taken away.
        self.0.recv().unwrap_or_default();
    }

    /// Waits for so long; an error if it comes meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> Result<()> {
        match self.0.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => bail!("interrupted"),
        }
    }
}
