//! What a case is, and the helpers that cases share.

use infer_guest::abi::{Argument, BY_POSITION, Context, Fetched, Graph, View};
use infer_guest::{DType, Error};

/// One way to use the host.
pub(crate) struct Case {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// How it ends on a host that is right.
    pub(crate) expected: Expected,
    /// What it does; arguments in capitals, with their defaults.
    pub(crate) about: &'static str,
    /// Does it.
    pub(crate) run: fn(&[String]) -> Outcome,
    /// What follows it.
    pub(crate) after: After,
}

/// How a case ends on a host that is right.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Expected {
    /// With a line `ok ...`.
    Ok,
    /// With a line `err ...`.
    Err,
    /// With one or the other, as the host was started.
    Either,
    /// With a trap, nothing being printed.
    Trap,
    /// Never, until the host stops it.
    Stop,
}

impl Expected {
    /// As `--list` prints it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Expected::Ok => "ok",
            Expected::Err => "err",
            Expected::Either => "ok-or-err",
            Expected::Trap => "trap",
            Expected::Stop => "stopped",
        }
    }
}

/// What follows a case.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum After {
    /// A right inference, to see that the host is still usable.
    RightInference,
    /// Nothing: the case uses no model.
    Nothing,
}

impl Case {
    /// A case that is followed by a right inference.
    pub(crate) const fn new(
        name: &'static str,
        expected: Expected,
        about: &'static str,
        run: fn(&[String]) -> Outcome,
    ) -> Case {
        Case {
            name,
            expected,
            about,
            run,
            after: After::RightInference,
        }
    }

    /// A case that uses no model.
    pub(crate) const fn plain(
        name: &'static str,
        expected: Expected,
        about: &'static str,
        run: fn(&[String]) -> Outcome,
    ) -> Case {
        Case {
            name,
            expected,
            about,
            run,
            after: After::Nothing,
        }
    }
}

/// What a case found: what to print after `ok`, or why it is no `ok`.
pub(crate) type Outcome = Result<String, Failure>;

/// Why a case is no `ok`.
pub(crate) enum Failure {
    /// The host refused.
    Host(Error),
    /// The host did it, but not rightly.
    Wrong(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Host(error)
    }
}

/// An error as the table has it: `CODE MESSAGE`, or on preview1 `errno N name`.
pub(crate) fn describe(error: &Error) -> String {
    match error.code().errno().filter(|_| BY_POSITION) {
        Some(errno) => format!("errno {errno} {}", error.code().name().replace('-', "_")),
        None => format!("{} {}", error.code(), error.message())
            .trim_end()
            .to_owned(),
    }
}

/// An argument for an input, by name and position.
pub(crate) fn input<'a>(
    name: &'a str,
    index: u32,
    dtype: DType,
    dimensions: &'a [u32],
    data: &'a [u8],
) -> Argument<'a> {
    Argument {
        name,
        index,
        tensor: View {
            dtype,
            dimensions,
            data,
        },
    }
}

/// The bytes of `f32` values.
pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Opens a model, runs it once, fetches its first outputs, and gives every handle back.
pub(crate) fn run_once(
    model: &str,
    arguments: &[Argument<'_>],
    outputs: u32,
) -> Result<Vec<Fetched>, Error> {
    let graph = Graph::by_name(model)?;
    let context = graph.context();
    let fetched = context.and_then(|mut context| {
        let fetched = fetch(&mut context, arguments, outputs);
        context.close()?;
        fetched
    });
    graph.close()?;
    fetched
}

/// Runs once in a context and fetches the first outputs.
pub(crate) fn fetch(
    context: &mut Context,
    arguments: &[Argument<'_>],
    outputs: u32,
) -> Result<Vec<Fetched>, Error> {
    let results = context.compute(arguments)?;
    (0..outputs)
        .map(|index| results.fetch(index, None))
        .collect()
}

/// That an output has these bytes, and, where the ABI says more, this type and these dimensions.
pub(crate) fn expect(
    got: &Fetched,
    dtype: DType,
    dimensions: &[u32],
    data: &[u8],
) -> Result<(), Failure> {
    let type_fits = got.dtype.is_none_or(|got| got == dtype);
    let dimensions_fit = got.dimensions.as_ref().is_none_or(|got| got == dimensions);
    if type_fits && dimensions_fit && got.data == data {
        return Ok(());
    }
    Err(Failure::Wrong(format!(
        "expected {dtype} {dimensions:?} {data:?}, got {got:?}"
    )))
}

/// A number from the arguments, or its default.
pub(crate) fn number(arguments: &[String], place: usize, default: u64) -> Result<u64, Failure> {
    match arguments.get(place) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| Failure::Wrong(format!("expected a number, got `{text}`"))),
    }
}
