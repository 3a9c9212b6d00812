//! Sockets: connections are taken, encrypted where that is wanted, and ended in order when the server stops.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use infer_core::{Error, ErrorKind, Result};
use infer_models::install::file_error;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::serve::access::{Watch, Watched};
use crate::serve::config::{ServerLimits, TlsFiles};
use crate::serve::patience::{Patient, PatientStreams};

/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the last answers may take when everything else has ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// The most connections that wait to be taken, as tokio has it.
const BACKLOG: usize = 1024;

/// How long a connection of HTTP/1.1 is kept for its next request, until that's head is there: longer than load balancers
/// usually believe in one that nobody uses.
const KEPT: Duration = Duration::from_secs(75);

/// How long nothing is taken after a connection could not be: file descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket, and what answers there.
pub(crate) struct Listening {
    pub(crate) what: &'static str,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) router: Router,
    pub(crate) watch: Watch,
}

/// Binds a socket.
///
/// # Errors
/// `RuntimeError` where the address cannot be had.
pub(crate) async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(
            ErrorKind::RuntimeError,
            format!("cannot listen on {address}"),
        )
        .with_source(error)
        .with_hint(format!(
            "another program may have it: {option} takes another address"
        ))
    })
}

/// Reads certificate and key.
///
/// # Errors
/// `NotFound` for files that cannot be read, `InvalidArgument` for what is in them.
pub(crate) fn tls(files: &TlsFiles) -> Result<TlsAcceptor> {
    let read = |path| std::fs::read(path).map_err(|error| file_error("read", path, error));
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    let wrong = |what: &str, path: &std::path::Path| {
        let message = format!("expected {what} in PEM in `{}`, found none", path.display());
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| wrong("certificates", &files.certificate).with_source(error))?;
    if certificates.is_empty() {
        return Err(wrong("certificates", &files.certificate));
    }
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| wrong("a private key", &files.key).with_source(error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(certificates, key)
        });
    let mut config = config.map_err(|error| {
        let message = "the certificate and the key cannot be used together";
        Error::new(ErrorKind::InvalidArgument, message).with_source(error)
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Takes connections until `stopping` says so, then lets the requests in flight end. Connections that are still there
/// when this is dropped are cut.
pub(crate) async fn serve(
    listening: Listening,
    limits: ServerLimits,
    mut stopping: watch::Receiver<bool>,
) {
    let Listening {
        what: _,
        listener,
        tls,
        router,
        watch,
    } = listening;
    let graceful = GracefulShutdown::new();
    let places = limits.connections.min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(places));
    let mut connections = tokio::task::JoinSet::new();
    // When it is told to stop, those that wait already are still taken, and no more of them than wait at most.
    let mut last = BACKLOG;
    while last > 0 {
        if *stopping.borrow() {
            last -= 1;
        }
        let taken = tokio::select! {
            biased;
            taken = take(&listener, &places) => taken,
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some((stream, client, place)) = taken else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connected = watch.connections.taken();
        let service = Watched::new(router.clone(), watch.clone(), client);
        let patience = limits.head_timeout;
        let (watcher, tls) = (graceful.watcher(), tls.clone());
        let stream = Patient::new(stream, patience);
        connections.spawn(async move {
            let _held = (place, connected);
            match tls {
                None => connection(stream, (service, patience), watcher).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        connection(stream, (service, patience), watcher).await;
                    }
                    Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                },
            }
        });
    }
    // Whoever comes now is refused by the system.
    drop(listener);
    graceful.shutdown().await;
}

async fn take(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            // An answer shall not wait for more to be sent.
            let _ = stream.set_nodelay(true);
            Some((stream, client, place))
        }
        Err(error) => {
            tracing::warn!("a connection could not be taken: {error}");
            None
        }
    }
}

/// The largest frame that a client of HTTP/2 may send, in bytes: tensors in frames of the default, 16 KiB, cost more.
const FRAME: u32 = 1 << 20;

/// How much of one answer is handed over to a client of HTTP/2 that would take it, in bytes: as much as a picture's tensor,
/// so that nobody has to wake up for its end.
const MOST_HANDED_OVER: usize = 1 << 20;

/// How much a connection of HTTP/1.1 reads at one time, in bytes, and keeps a buffer for; a request's headers are no longer.
const READ: usize = 128 << 10;

/// How many requests a client of HTTP/2 may have at one time on one connection.
const STREAMS: u32 = 100;

/// How much of a request's body is taken from such a client before somebody reads it, in bytes.
const UNREAD: u32 = 1 << 20;

/// What answers one connection.
fn builder(streams: PatientStreams, patience: Duration) -> auto::Builder<PatientStreams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(KEPT.max(patience))
        .max_buf_size(READ);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience)
        .max_frame_size(FRAME)
        .max_send_buf_size(MOST_HANDED_OVER)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(UNREAD)
        // So that bodies which nobody reads yet, of requests that wait for their guest, keep no other from coming.
        .initial_connection_window_size(STREAMS * UNREAD);
    builder
}

/// Answers a connection's requests, of which the first has to come in time: before the protocol is known, and where HTTP/2
/// has no request yet, nothing else would end a silent one. Ends it too where a client is stuck in a way that streams cannot
/// end.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (service, patience): (Watched, Duration),
    watcher: Watcher,
) {
    let asked = service.asked();
    let streams = PatientStreams::new(patience);
    let builder = builder(streams.clone(), patience);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(watcher.watch(connection.into_owned()));
    let ended = loop {
        match tokio::time::timeout(patience, &mut connection).await {
            Ok(ended) => break ended,
            Err(_) if !asked.get() => {
                tracing::debug!("a connection was closed that asked for nothing in {patience:?}");
                return;
            }
            Err(_) if streams.are_stuck() => {
                tracing::debug!(
                    "a connection was closed whose client took nothing in {patience:?}"
                );
                return;
            }
            Err(_) => {}
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
