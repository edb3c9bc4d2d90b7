use std::{
    fmt, fs, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When a connection becomes a secret one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Never.
    None,
    /// After the command STARTTLS.
    Start,
    /// From the first byte.
    Implicit,
}

/// Trusts the system's authorities, and those of a PEM file.
pub(crate) fn trust(ca_file: Option<&str>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate.map_err(|e| e.to_string()).and_then(|c| roots.add(c).map_err(|e| e.to_string()));
            added.map_err(|error| format!("{path}: {error}"))?;
        }
        if roots.len() == before {
            return Err(format!("{path} holds no certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A connection in the form in which lettre takes one.
///
/// A byte that is not ASCII is read as `?`: lettre loses the code of a reply that is no UTF-8.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    io: S,
    peer: SocketAddr,
    /// Read before anything else: lettre always waits for a greeting, and after STARTTLS there is none.
    greeting: &'static [u8],
}

impl<S> Stream<S> {
    pub(crate) fn new(io: S, peer: SocketAddr) -> Self {
        Self { io, peer, greeting: b"" }
    }

    pub(crate) fn greeted(io: S, peer: SocketAddr) -> Self {
        Self { io, peer, greeting: b"220 greeted before STARTTLS\r\n" }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let (now, later) = self.greeting.split_at(self.greeting.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.greeting = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        for byte in buffer.filled_mut()[before..].iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> AsyncTokioStream for Stream<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
