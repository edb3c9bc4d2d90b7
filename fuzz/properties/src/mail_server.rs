use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Stands in a reply for the last line that the client has sent: servers repeat what they don't understand.
pub(crate) const ECHO: u8 = b'$';

/// What a session has come to.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// All that the client has sent.
    pub(crate) sent: Vec<u8>,
    /// What the client has read since it sent something.
    pub(crate) reply: Vec<u8>,
}

/// A mail server that says line after line, whenever it is asked for more, and then hangs up.
#[derive(Debug)]
pub(crate) struct MailServer {
    script: Vec<u8>,
    said: usize,
    /// The rest of a line for which there was no room.
    rest: Vec<u8>,
    log: Arc<Mutex<Log>>,
}

impl MailServer {
    pub(crate) fn new(script: &[u8], log: &Arc<Mutex<Log>>) -> Self {
        Self { script: script.to_vec(), said: 0, rest: Vec::new(), log: Arc::clone(log) }
    }

    fn next_line(&mut self) {
        let left = &self.script[self.said..];
        let length = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |end| end + 1);
        let line = &left[..length];
        self.said += length;
        let mut log = self.log.lock().expect("nobody panics while holding this lock");
        let sent = log.sent.strip_suffix(b"\r\n").unwrap_or(&log.sent);
        let last_sent = sent.rsplit(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        for &byte in line {
            match byte {
                ECHO => self.rest.extend_from_slice(&last_sent),
                other => self.rest.push(other),
            }
        }
        log.reply.extend_from_slice(&self.rest);
    }
}

impl AsyncRead for MailServer {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            self.next_line();
        }
        let now = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..now]);
        self.rest.drain(..now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MailServer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut log = self.log.lock().expect("nobody panics while holding this lock");
        log.sent.extend_from_slice(bytes);
        log.reply.clear();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
