//! The one error of this library: a wasi-nn error code and a message.
//!
//! Codes are those of both ABIs together. The component ABI sends a message with each; preview1 sends a number
//! only, so its message here says what that number means. Mistakes that the library finds itself, before the
//! host is asked, carry the code that the host would have given.

use std::fmt;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: Code,
    message: String,
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A wasi-nn error code, of either ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// A name, shape, element type, handle or number that does not fit.
    InvalidArgument,
    /// The model bytes are not what their encoding says, or no engine reads that encoding.
    InvalidEncoding,
    /// The guest's memory could not be reached (preview1 only).
    MissingMemory,
    /// The host is busy (preview1 only).
    Busy,
    /// The host's deadline passed (component only; preview1 says [`Code::RuntimeError`]).
    Timeout,
    /// The engine failed.
    RuntimeError,
    /// The host or the engine does not do this.
    UnsupportedOperation,
    /// A limit of the host was reached, or a buffer is too small.
    TooLarge,
    /// No model of that name.
    NotFound,
    /// Not granted to this guest (component only; preview1 says [`Code::UnsupportedOperation`]).
    Security,
    /// The host gave no reason.
    Unknown,
}

/// One row per code: its name in the component ABI's spelling, its preview1 number if it has one, its meaning.
const CODES: [(Code, &str, Option<u16>, &str); 11] = [
    (
        Code::InvalidArgument,
        "invalid-argument",
        Some(1),
        "an argument does not fit",
    ),
    (
        Code::InvalidEncoding,
        "invalid-encoding",
        Some(2),
        "the model is not in the encoding that was named",
    ),
    (
        Code::MissingMemory,
        "missing-memory",
        Some(3),
        "the guest's memory could not be reached",
    ),
    (Code::Busy, "busy", Some(4), "the host is busy"),
    (Code::Timeout, "timeout", None, "the deadline passed"),
    (
        Code::RuntimeError,
        "runtime-error",
        Some(5),
        "the engine failed",
    ),
    (
        Code::UnsupportedOperation,
        "unsupported-operation",
        Some(6),
        "the host does not do this",
    ),
    (
        Code::TooLarge,
        "too-large",
        Some(7),
        "a limit was reached or a buffer is too small",
    ),
    (Code::NotFound, "not-found", Some(8), "no such model"),
    (
        Code::Security,
        "security",
        None,
        "not granted to this guest",
    ),
    (Code::Unknown, "unknown", None, "no reason was given"),
];

impl Code {
    fn row(self) -> &'static (Code, &'static str, Option<u16>, &'static str) {
        CODES
            .iter()
            .find(|row| row.0 == self)
            .expect("every code has a row")
    }

    /// The code's name as the component ABI spells it, such as `invalid-argument`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The code's number in preview1, where it has one.
    pub fn errno(self) -> Option<u16> {
        self.row().2
    }

    /// The code of a preview1 error number; [`Code::Unknown`] for one that the ABI does not define.
    pub fn from_errno(errno: u16) -> Code {
        CODES
            .iter()
            .find(|row| row.2 == Some(errno))
            .map_or(Code::Unknown, |row| row.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Error {
    /// An error of this code; the message starts in lower case and has no final stop.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error {
            code,
            message: message.into(),
        }
    }

    /// The error that a preview1 host means by this number (not 0, which is success). What the host knows
    /// besides does not cross this ABI; `infer run -v` prints it.
    pub fn from_errno(errno: u16) -> Error {
        let code = Code::from_errno(errno);
        Error::new(code, format!("{}, errno {errno}", code.row().3))
    }

    /// Shorthand for the commonest mistake.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(Code::InvalidArgument, message)
    }

    /// The wasi-nn code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the host, or this library, said; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "{}", self.code),
            message => write!(f, "{message} ({})", self.code),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_go_both_ways() {
        for errno in 1..=8 {
            assert_eq!(Code::from_errno(errno).errno(), Some(errno));
        }
        assert_eq!(Code::from_errno(99), Code::Unknown);
    }

    #[test]
    fn the_message_comes_first_and_the_code_after() {
        let error = Error::new(Code::NotFound, "no model `x`");
        assert_eq!(error.to_string(), "no model `x` (not-found)");
        assert_eq!(Error::new(Code::Busy, "").to_string(), "busy");
    }
}
