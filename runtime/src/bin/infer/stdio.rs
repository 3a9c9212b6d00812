//! Standard output as a guest sees it: the host's own, but when its reader has gone away the whole
//! program ends quietly, as a native one would by SIGPIPE, instead of failing inside the guest.

use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::status::BROKEN_PIPE;

/// How much a guest may write in one go, in bytes.
const CHUNK: usize = 64 * 1024;

/// The host's standard output.
pub(crate) struct Stdout;

/// Standard output without a buffer of the host's: one would be written when the process ends, and hold it
/// if nobody reads.
fn unbuffered() -> std::io::Result<&'static File> {
    static FILE: OnceLock<File> = OnceLock::new();
    if let Some(file) = FILE.get() {
        return Ok(file);
    }
    let file = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    Ok(FILE.get_or_init(|| file))
}

fn or_quit<T>(result: std::io::Result<T>) -> std::io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            std::process::exit(BROKEN_PIPE.into())
        }
        result => result,
    }
}

fn stream(result: std::io::Result<()>) -> StreamResult<()> {
    or_quit(result).map_err(|error| StreamError::LastOperationFailed(error.into()))
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        std::io::IsTerminal::is_terminal(&std::io::stdout())
    }
}

impl StdoutStream for Stdout {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Stdout)
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stdout)
    }
}

impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        stream(unbuffered().and_then(|mut stdout| stdout.write_all(&bytes)))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

impl Pollable for Stdout {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(or_quit(
            unbuffered().and_then(|mut stdout| stdout.write(bytes)),
        ))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
