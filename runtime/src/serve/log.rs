//! What guests write to their standard output and error: lines in the server's log.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::serve::access::RequestId;

/// The longest line; what is longer becomes several.
const LONGEST: usize = 4096;

/// One guest's output.
#[derive(Clone)]
pub(crate) struct LogStream {
    guest: String,
    request: RequestId,
    stream: &'static str,
    line: Vec<u8>,
}

impl LogStream {
    pub(crate) fn new(guest: &str, request: &RequestId, stream: &'static str) -> LogStream {
        LogStream {
            guest: guest.to_owned(),
            request: request.clone(),
            stream,
            line: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            for piece in part.chunks(LONGEST) {
                self.line.extend_from_slice(piece);
                if self.line.ends_with(b"\n") || self.line.len() >= LONGEST {
                    self.say();
                }
            }
        }
    }

    fn say(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = visible(text.trim_end());
        let request_id = self.request.as_str();
        tracing::info!(
            guest = self.guest,
            request_id,
            stream = self.stream,
            "{text}"
        );
        self.line.clear();
    }
}

/// A text as it may stand in a log: what would move the cursor or turn the line around is spelt out, and nothing else, so
/// that a guest's own JSON can be read there.
fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c != '\t' && c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.say();
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for LogStream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        Self: 'b,
        'a: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_s_line_is_changed_only_where_it_could_hide_something() {
        let cases = [
            (
                r#"{"path": "C:\\x", 'é': 1}"#,
                r#"{"path": "C:\\x", 'é': 1}"#,
            ),
            ("a\tb", "a\tb"),
            ("a\u{1b}[2Jb\rc", "a\\u{1b}[2Jb\\rc"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ];
        for (line, expected) in cases {
            assert_eq!(visible(line), expected);
        }
    }
}
