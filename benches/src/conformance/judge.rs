//! One case by one route: what is carried, the run, and the comparison.

use std::path::Path;

use crate::conformance::compare::{Difference, Expectation, compare};
use crate::conformance::{
    About, Case, DataSet, Harness, Outcome, Output, Stopped, Verdict, reason,
};

/// How many nodes of a model a result lists.
const MOST_NODES: usize = 24;

/// Tests whose answer a single rounding decides, so that one engine's is as right as another's. What differs in them
/// is rounded, not wrong.
const ILL_CONDITIONED: [&str; 2] = [
    // Its made-up weights give every class the score 9.475685e9, where neighbouring numbers are 1,024 apart, and
    // a softmax of these turns one unit in the last place into everything or nothing.
    "light/test_squeezenet",
    // A quotient of exactly a half is rounded to a whole number: the last bit of the division before decides.
    "node/test_dynamicquantizelinear_expanded",
];

/// Runs a case on every data set that it has.
pub fn judge(harness: &dyn Harness, case: &Case) -> Outcome {
    let about = match About::read(&case.model()) {
        Ok(about) => about,
        Err(message) => return outcome(case, None, Stopped::failed(message)),
    };
    match sets(harness, case, &about) {
        Ok(()) => Outcome {
            case: case.name.clone(),
            verdict: Verdict::Passed,
            reason: String::new(),
            detail: String::new(),
            nodes: Vec::new(),
            tensors: Vec::new(),
        },
        Err(mut stopped) => {
            if stopped.verdict == Verdict::Wrong && ILL_CONDITIONED.contains(&case.name.as_str()) {
                stopped.verdict = Verdict::Rounded;
            }
            outcome(case, Some(&about), stopped)
        }
    }
}

/// The result of a case that did not pass.
pub fn outcome(case: &Case, about: Option<&About>, stopped: Stopped) -> Outcome {
    let operators = about.map(About::operators).unwrap_or_default();
    let reason = reason::normal(&stopped.message, &operators, &case.folder);
    let telling = !matches!(
        stopped.verdict,
        Verdict::NotCarriable | Verdict::Unsupported
    );
    Outcome {
        case: case.name.clone(),
        verdict: stopped.verdict,
        reason,
        detail: stopped.message,
        nodes: about
            .filter(|_| telling)
            .map(|about| about.lines(MOST_NODES))
            .unwrap_or_default(),
        tensors: if telling { tensors(case) } else { Vec::new() },
    }
}

fn sets(harness: &dyn Harness, case: &Case, about: &About) -> Result<(), Stopped> {
    if let Some(strange) = about.strange() {
        return Err(Stopped::new(Verdict::NotCarriable, strange));
    }
    let folders = case.sets().map_err(Stopped::failed)?;
    if folders.is_empty() {
        return Err(Stopped::failed("the test has no data"));
    }
    folders
        .iter()
        .try_for_each(|folder| set(harness, case, about, folder))
}

fn set(harness: &dyn Harness, case: &Case, about: &About, folder: &Path) -> Result<(), Stopped> {
    let set = DataSet::read(folder).map_err(Stopped::failed)?;
    let dtypes = set
        .inputs
        .iter()
        .chain(&set.outputs)
        .map(|value| value.dtype);
    if let Some(dtype) = dtypes.into_iter().find(|dtype| !harness.carries(*dtype)) {
        return Err(Stopped::new(Verdict::NotCarriable, dtype));
    }
    let outputs = harness.run(case, &set)?;
    let expectation = match about.is_random() {
        true => Expectation::Shape,
        false => Expectation::Values(case.tolerance().map_err(Stopped::failed)?),
    };
    hold(&set, &outputs, expectation)
}

fn hold(set: &DataSet, outputs: &[Output], expectation: Expectation) -> Result<(), Stopped> {
    let (expected, got) = (set.outputs.len(), outputs.len());
    if expected != got {
        let message = format!("expected {expected} outputs, got {got}");
        return Err(Stopped::new(Verdict::Wrong, message));
    }
    let mut rounded = Ok(());
    for (place, (expected, got)) in set.outputs.iter().zip(outputs).enumerate() {
        let (verdict, message) = match compare(expected, got, expectation) {
            Ok(()) => continue,
            Err(Difference::Rounded(message)) => (Verdict::Rounded, message),
            Err(Difference::Wrong(message)) => (Verdict::Wrong, message),
        };
        let stopped = Err(Stopped::new(verdict, format!("output {place}: {message}")));
        match verdict {
            Verdict::Rounded => rounded = stopped,
            _ => return stopped,
        }
    }
    rounded
}

/// The test's tensors, for people.
fn tensors(case: &Case) -> Vec<String> {
    let sets = case.sets().unwrap_or_default();
    let Some(Ok(set)) = sets.first().map(|folder| DataSet::read(folder)) else {
        return Vec::new();
    };
    let inputs = set.inputs.iter().map(|value| ("in", value));
    let all = inputs.chain(set.outputs.iter().map(|value| ("out", value)));
    all.map(|(way, value)| format!("{way} {} {:?}", value.dtype, value.shape))
        .collect()
}
