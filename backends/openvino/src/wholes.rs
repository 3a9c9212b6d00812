//! Follows whole numbers through an ONNX model, since OpenVINO computes them in 32 bits, some in f32, and
//! those of 8 and 16 bits so that they stop at the largest where they should wrap.
//!
//! Each value has an element type and a reach: `Small` is computed from shapes and constants alone, `Given`
//! comes from an input, or is a constant that f32 has to round, and fits 32 bits, `Wide` may be wrong because it has passed what the engine keeps. A wide value may still be an index or a
//! size, where such a number means nothing; anything else that it reaches is refused. Facts only grow, so that
//! loops and functions are done when a pass over all nodes changes nothing.

use std::collections::{HashMap, HashSet};

use infer_core::{Error, Result, clip};
use infer_onnx::{Graph, Model, Node};

use crate::constants::{is_large, makes_large};
use crate::operators::{self, BOOL, INT32, UNKNOWN, is_narrow, is_whole, is_wide};
use crate::refuse::unsupported;

/// More than any real model needs, which is its functions' and loops' depth.
const MOST_PASSES: usize = 100;

/// Checks a whole model.
///
/// # Errors
/// `UnsupportedOperation` for the first operator whose answer may be wrong.
pub(crate) fn check(model: &Model) -> Result<()> {
    let mut flow = Flow::new(model);
    for _ in 0..MOST_PASSES {
        flow.changed = false;
        flow.fault = None;
        flow.pass();
        if !flow.changed {
            return match flow.fault {
                None => Ok(()),
                Some(fault) => Err(fault.error()),
            };
        }
    }
    Err(unsupported(
        "functions and loops are too deep to follow whole numbers through them".to_owned(),
    ))
}

/// What an operator does wrong.
#[derive(Clone, Copy)]
enum Fault<'a> {
    Narrow(&'a str),
    Wide(&'a str),
    Compared(&'a str),
}

/// The least and the most that a value may be, one of them set by a constant so far.
#[derive(Clone, Copy)]
struct Bound<'a> {
    operator: &'a str,
    is_large: bool,
}

impl Fault<'_> {
    fn error(self) -> Error {
        let (operator, what) = match self {
            Fault::Narrow(operator) => (operator, "whole numbers of 8 or 16 bits do not wrap"),
            Fault::Compared(operator) => (
                operator,
                "it compares whole numbers in f32, which takes large ones for equal",
            ),
            Fault::Wide(operator @ ("Clip" | "Max" | "Min")) => (
                operator,
                "it keeps a large constant in f32, which rounds it",
            ),
            Fault::Wide(operator) if operators::rounds(operator) => (
                operator,
                "it computes whole numbers in f32, which rounds large ones",
            ),
            Fault::Wide(operator) => (
                operator,
                "it computes whole numbers in 32 bits, and the result may need more",
            ),
        };
        let operator = clip(operator);
        unsupported(format!("OpenVINO would run `{operator}` wrongly: {what}"))
            .with_hint("`--precision auto` allows it")
    }
}

/// How large the numbers of a value may be, with the operator that made them so.
#[derive(Clone, Copy)]
enum Reach<'a> {
    Small,
    Given,
    Wide(&'a str),
}

impl<'a> Reach<'a> {
    fn rank(self) -> u8 {
        match self {
            Reach::Small => 0,
            Reach::Given => 1,
            Reach::Wide(_) => 2,
        }
    }

    fn most(self, other: Reach<'a>) -> Reach<'a> {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Fact<'a> {
    dtype: i32,
    reach: Reach<'a>,
}

impl<'a> Fact<'a> {
    const NOTHING: Fact<'static> = Fact::new(UNKNOWN, Reach::Small);

    const fn new(dtype: i32, reach: Reach<'a>) -> Fact<'a> {
        match dtype {
            BOOL => Fact {
                dtype,
                reach: Reach::Small,
            },
            _ => Fact { dtype, reach },
        }
    }

    /// Both; of two element types, that of which more may go wrong.
    fn join(self, other: Fact<'a>) -> Fact<'a> {
        let dtype = match danger(other.dtype) > danger(self.dtype) {
            true => other.dtype,
            false => self.dtype,
        };
        Fact {
            dtype,
            reach: self.reach.most(other.reach),
        }
    }

    fn rank(self) -> (u8, u8) {
        (danger(self.dtype), self.reach.rank())
    }
}

fn danger(dtype: i32) -> u8 {
    match dtype {
        UNKNOWN => 0,
        dtype if is_narrow(dtype) => 3,
        dtype if is_wide(dtype) => 2,
        _ => 1,
    }
}

/// The facts of a model. Names are told apart by where they stand: 0 is the model, others are its functions.
struct Flow<'a> {
    model: &'a Model,
    facts: HashMap<(usize, &'a str), Fact<'a>>,
    functions: HashMap<(&'a str, &'a str), usize>,
    /// Constants with numbers that f32 has to round.
    large: HashSet<(usize, &'a str)>,
    bounds: HashMap<(usize, &'a str), Bound<'a>>,
    changed: bool,
    fault: Option<Fault<'a>>,
}

impl<'a> Flow<'a> {
    fn new(model: &'a Model) -> Flow<'a> {
        let functions = model.functions.iter().enumerate();
        let functions = functions.map(|(at, f)| ((f.domain.as_str(), f.name.as_str()), at));
        Flow {
            model,
            facts: HashMap::new(),
            functions: functions.collect(),
            large: HashSet::new(),
            bounds: HashMap::new(),
            changed: false,
            fault: None,
        }
    }

    fn pass(&mut self) {
        let model = self.model;
        if let Some(graph) = &model.graph {
            self.graph(0, graph, Reach::Given);
            for output in &graph.outputs {
                if let Reach::Wide(operator) = self.fact(0, &output.name).reach {
                    self.fault.get_or_insert(Fault::Wide(operator));
                }
            }
        }
        for (at, function) in model.functions.iter().enumerate() {
            self.nodes(at + 1, &function.nodes);
        }
    }

    fn graph(&mut self, place: usize, graph: &'a Graph, inputs: Reach<'a>) {
        let sparse = graph.sparse_initializers.iter();
        let sparse = sparse.filter_map(|tensor| tensor.values.as_ref());
        for tensor in graph.initializers.iter().chain(sparse) {
            let reach = match is_large(tensor) {
                true => self.note_large(place, &tensor.name),
                false => Reach::Small,
            };
            self.add(place, &tensor.name, Fact::new(tensor.dtype, reach));
        }
        for value in graph.values.iter().chain(&graph.outputs) {
            let dtype = value.dtype().unwrap_or(UNKNOWN);
            self.add(place, &value.name, Fact::new(dtype, Reach::Small));
        }
        for value in &graph.inputs {
            let dtype = value.dtype().unwrap_or(UNKNOWN);
            self.add(place, &value.name, Fact::new(dtype, inputs));
        }
        self.nodes(place, &graph.nodes);
    }

    fn nodes(&mut self, place: usize, nodes: &'a [Node]) {
        for node in nodes {
            let key = (node.domain.as_str(), node.operator.as_str());
            let bodies = || {
                node.attributes
                    .iter()
                    .flat_map(|a| a.graph.iter().chain(&a.graphs))
            };
            if let Some(at) = self.functions.get(&key).copied() {
                self.call(place, node, at);
            } else if bodies().next().is_some() {
                bodies().for_each(|body| self.body(place, node, body));
            } else {
                self.plain(place, node);
            }
        }
    }

    fn call(&mut self, place: usize, node: &'a Node, at: usize) {
        let function = &self.model.functions[at];
        for (given, name) in node.inputs.iter().zip(&function.inputs) {
            self.add(at + 1, name, self.fact(place, given));
        }
        for (name, output) in function.outputs.iter().zip(&node.outputs) {
            self.add(place, output, self.fact(at + 1, name));
        }
    }

    /// A graph inside of a node: what goes in, what comes out, and what a loop hands to its next turn.
    fn body(&mut self, place: usize, node: &'a Node, body: &'a Graph) {
        self.graph(place, body, Reach::Small);
        // A loop's body has its condition as one more output, before the others.
        let skipped = usize::from(node.operator == "Loop");
        for (given, input) in node.inputs.iter().zip(&body.inputs) {
            self.add(place, &input.name, self.fact(place, given));
        }
        let results = || body.outputs.iter().skip(skipped);
        for (result, output) in results().zip(&node.outputs) {
            self.add(place, output, self.fact(place, &result.name));
        }
        let carried = match node.operator.as_str() {
            "Loop" => node.inputs.len().saturating_sub(2),
            "Scan" => scan_states(node),
            _ => 0,
        };
        for (at, result) in results().take(carried).enumerate() {
            if let Some(input) = body.inputs.get(at + 2 * skipped) {
                self.add(place, &input.name, self.fact(place, &result.name));
            }
        }
        // Without a turn, a loop gives back what it was given.
        for (given, output) in node
            .inputs
            .iter()
            .skip(2)
            .zip(&node.outputs)
            .take(carried * skipped)
        {
            self.add(place, output, self.fact(place, given));
        }
    }

    fn plain(&mut self, place: usize, node: &'a Node) {
        let operator = node.operator.as_str();
        let inputs: Vec<Fact<'a>> = node
            .inputs
            .iter()
            .map(|name| self.fact(place, name))
            .collect();
        let data = inputs
            .iter()
            .enumerate()
            .filter(|(at, _)| !operators::is_index(operator, *at));
        let data: Vec<Fact<'a>> = data.map(|(_, fact)| *fact).collect();
        if data.iter().any(|fact| operators::wraps(node, fact.dtype)) {
            self.fault.get_or_insert(Fault::Narrow(operator));
        }
        let from_large = |fact: &Fact<'_>| {
            (is_wide(fact.dtype) || fact.dtype == INT32) && !matches!(fact.reach, Reach::Small)
        };
        if operators::compares(operator) && data.len() > 1 && data.iter().all(from_large) {
            self.fault.get_or_insert(Fault::Compared(operator));
        }
        let mut reach = data
            .iter()
            .fold(Reach::Small, |most, fact| most.most(fact.reach));
        let first = node.inputs.first().map_or("", String::as_str);
        let moved = operators::moves(operator) && self.large.contains(&(place, first));
        if moved || makes_large(node) {
            for name in &node.outputs {
                reach = reach.most(self.note_large(place, name));
            }
        }
        if self.clips_to_large(place, node, &inputs) {
            reach = Reach::Wide(operator);
        }
        for (at, name) in node
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            let fact = outcome(node, &inputs, reach, at);
            if let (Reach::Wide(maker), false) = (reach, is_kept(fact)) {
                self.fault.get_or_insert(Fault::Wide(maker));
            }
            self.add(place, name, fact);
        }
    }

    /// Whether a node bounds whole numbers by a constant that f32 has to round, where the engine keeps it so.
    fn clips_to_large(&mut self, place: usize, node: &'a Node, inputs: &[Fact<'a>]) -> bool {
        let large = |name: &String| self.large.contains(&(place, name.as_str()));
        let is_large = node.inputs.iter().any(large);
        let operator = node.operator.as_str();
        let Some(other) = operators::clips_with(operator) else {
            return operator == "Clip" && is_large;
        };
        let bounds = node.inputs.iter().filter_map(|name| {
            let bound = self.bounds.get(&(place, name.as_str()))?;
            (bound.operator == other).then_some(*bound)
        });
        let bounds: Vec<Bound<'a>> = bounds.collect();
        let is_constant = |fact: &Fact<'_>| matches!(fact.reach, Reach::Small);
        if is_large || inputs.iter().any(is_constant) {
            for name in &node.outputs {
                self.bounds
                    .insert((place, name), Bound { operator, is_large });
            }
        }
        !bounds.is_empty() && (is_large || bounds.iter().any(|bound| bound.is_large))
    }

    fn note_large(&mut self, place: usize, name: &'a str) -> Reach<'a> {
        self.large.insert((place, name));
        Reach::Given
    }

    fn fact(&self, place: usize, name: &str) -> Fact<'a> {
        self.facts
            .get(&(place, name))
            .copied()
            .unwrap_or(Fact::NOTHING)
    }

    fn add(&mut self, place: usize, name: &'a str, fact: Fact<'a>) {
        if name.is_empty() {
            return;
        }
        let known = self.facts.entry((place, name)).or_insert(Fact::NOTHING);
        let joined = known.join(fact);
        self.changed |= joined.rank() != known.rank();
        *known = joined;
    }
}

/// The inputs of a `Scan` that are not sequences.
fn scan_states(node: &Node) -> usize {
    let sequences = node.attributes.iter().find(|a| a.name == "num_scan_inputs");
    let sequences = sequences
        .and_then(|a| usize::try_from(a.int).ok())
        .unwrap_or(0);
    node.inputs.len().saturating_sub(sequences)
}

/// Whether what was too wide still is followed in it.
fn is_kept(fact: Fact<'_>) -> bool {
    is_whole(fact.dtype) && matches!(fact.reach, Reach::Wide(_))
}

fn outcome<'a>(node: &'a Node, inputs: &[Fact<'a>], reach: Reach<'a>, output: usize) -> Fact<'a> {
    let operator = node.operator.as_str();
    if let Some(dtype) = operators::is_own(operator, output) {
        return Fact::new(dtype, Reach::Small);
    }
    let dtypes: Vec<i32> = inputs.iter().map(|fact| fact.dtype).collect();
    let dtype = operators::element_type(node, &dtypes);
    let reach = match reach {
        Reach::Given if is_wide(dtype) && passes(node, &dtypes, dtype) => Reach::Wide(operator),
        Reach::Given if (is_wide(dtype) || dtype == INT32) && operators::rounds(operator) => {
            Reach::Wide(operator)
        }
        Reach::Wide(_) if !is_whole(dtype) => Reach::Given,
        reach => reach,
    };
    Fact::new(dtype, reach)
}

/// Whether numbers that fit 32 bits may become some that do not.
fn passes(node: &Node, inputs: &[i32], output: i32) -> bool {
    let from = inputs.first().copied().unwrap_or(UNKNOWN);
    match node.operator.as_str() {
        "Cast" | "CastLike" => {
            let whole = is_whole(from) || matches!(from, BOOL | UNKNOWN);
            !whole || operators::loses_sign(from, output)
        }
        _ => operators::grows(node),
    }
}
