//! The one error type of backends and host, with a kind for each wasi-nn error code.

use std::fmt;

/// The result of everything in the contract.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is: wasi-nn's error codes, one to one, and one more that callers other than guests can
/// act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller passed something that does not fit the model or the call.
    InvalidArgument,
    /// The model's bytes are not what its encoding says.
    InvalidEncoding,
    /// A deadline passed.
    Timeout,
    /// The engine failed while loading or running.
    RuntimeError,
    /// The engine or the host cannot do this.
    UnsupportedOperation,
    /// A limit would be passed.
    TooLarge,
    /// There is no such model, file or device.
    NotFound,
    /// The caller was not granted this.
    Security,
    /// Too much is waiting already; the same call may work later. Guests get `runtime-error`.
    Busy,
    /// Anything else.
    Unknown,
}

impl ErrorKind {
    /// The name that wasi-nn's WIT has for it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgument => "invalid-argument",
            ErrorKind::InvalidEncoding => "invalid-encoding",
            ErrorKind::Timeout => "timeout",
            ErrorKind::RuntimeError | ErrorKind::Busy => "runtime-error",
            ErrorKind::UnsupportedOperation => "unsupported-operation",
            ErrorKind::TooLarge => "too-large",
            ErrorKind::NotFound => "not-found",
            ErrorKind::Security => "security",
            ErrorKind::Unknown => "unknown",
        }
    }
}

/// A failure: its kind, what happened, the remedy if there is one, and the cause.
///
/// `Display` is the message alone; the cause is `source()`, and the remedy is [`Error::hint`].
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without remedy or cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// The same error with what a person can do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with its cause.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The message and all its causes on one line, separated by colons: what a guest is told.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// A caller's text, cut to a length that an error message may repeat.
pub fn clip(text: &str) -> &str {
    clip_to(text, 200)
}

/// A text, cut to at most so many bytes.
pub fn clip_to(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len()))
        .rev()
        .find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
