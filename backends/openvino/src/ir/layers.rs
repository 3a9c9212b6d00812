//! The layers of OpenVINO's own form in ONNX's words (`words`): their operators, element types and constants, those
//! inside of loops and branches too.

use std::collections::HashMap;

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result, clip};
use infer_onnx::Model;
use roxmltree::{Document, Node};

use crate::operators::{BOOL, INT64, UNKNOWN, is_whole};
use crate::refuse::unsupported;
use crate::words::Words;

/// Reads the text of a model, with the bytes of its constants if there are any.
///
/// # Errors
/// `InvalidEncoding` for what is no XML, and for weights that lack what a constant needs; `UnsupportedOperation` for
/// loops and branches that are too deep.
pub(crate) fn read(xml: &[u8], weights: &Bytes) -> Result<Model> {
    let not_ir = |why: String| {
        Error::new(ErrorKind::InvalidEncoding, "not a valid OpenVINO model").with_source(why)
    };
    let text = std::str::from_utf8(xml).map_err(|error| not_ir(error.to_string()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = Document::parse(text).map_err(|error| not_ir(error.to_string()))?;
    let mut reader = Reader {
        words: Words::default(),
        weights,
        lacks: None,
        depth: 0,
        is_too_deep: false,
    };
    reader.graph(&Place::whole(document.root_element()));
    if reader.is_too_deep {
        return Err(unsupported(format!(
            "expected at most {MOST_BODIES} loops and branches inside one another"
        )));
    }
    match reader.lacks {
        None => Ok(reader.words.model()),
        Some(what) if weights.is_empty() => Err(not_ir(what).with_hint(
            "give its weights too: the file `.bin` beside the `.xml`, for a guest its content as the second part",
        )),
        Some(what) => Err(not_ir(what)),
    }
}

/// More than any real model has of loops and branches inside one another.
const MOST_BODIES: usize = 64;

struct Reader<'a> {
    words: Words,
    weights: &'a Bytes,
    /// What the first constant lacks whose bytes are not there.
    lacks: Option<String>,
    /// How many bodies the current layer is inside of.
    depth: usize,
    is_too_deep: bool,
}

/// A list of layers, and what goes in and out.
struct Place<'a, 'input> {
    /// The element with the layers and edges.
    element: Node<'a, 'input>,
    /// What the names of its values begin with.
    prefix: String,
    /// The value on each input port: layer and port.
    sources: HashMap<(&'a str, &'a str), String>,
    /// What its parameters are given from outside, by layer; `None` for a whole model, whose callers give them.
    given: Option<HashMap<&'a str, Vec<String>>>,
}

impl<'a, 'input> Place<'a, 'input> {
    fn whole(net: Node<'a, 'input>) -> Place<'a, 'input> {
        Place::of(net, String::new(), None)
    }

    fn of(
        element: Node<'a, 'input>,
        prefix: String,
        given: Option<HashMap<&'a str, Vec<String>>>,
    ) -> Place<'a, 'input> {
        let edges = children(element, "edges").flat_map(|edges| children(edges, "edge"));
        let sources = edges
            .map(|edge| {
                let to = (text(edge, "to-layer"), text(edge, "to-port"));
                let (layer, port) = (text(edge, "from-layer"), text(edge, "from-port"));
                (to, value_of(&prefix, layer, port))
            })
            .collect();
        Place {
            element,
            prefix,
            sources,
            given,
        }
    }

    fn layers(&self) -> impl Iterator<Item = Node<'a, 'input>> + use<'a, 'input> {
        let layers = children(self.element, "layers");
        layers.flat_map(|layers| children(layers, "layer"))
    }

    /// The values on a layer's input ports, in order; an empty name where nothing is connected.
    fn inputs(&self, layer: Node<'a, 'input>) -> Vec<String> {
        ports(layer, "input")
            .map(|port| self.input(text(layer, "id"), text(port, "id")))
            .collect()
    }

    fn input(&self, layer: &'a str, port: &'a str) -> String {
        self.sources
            .get(&(layer, port))
            .cloned()
            .unwrap_or_default()
    }

    /// What a result of the place gives out.
    fn result(&self, id: &str) -> Vec<String> {
        let layer = self.layers().find(|layer| text(*layer, "id") == id);
        layer.map_or_else(Vec::new, |layer| self.inputs(layer))
    }
}

impl Reader<'_> {
    fn graph(&mut self, place: &Place<'_, '_>) {
        for layer in place.layers() {
            self.layer(place, layer);
        }
    }

    fn layer<'a>(&mut self, place: &Place<'a, '_>, layer: Node<'a, '_>) {
        let (id, data) = (text(layer, "id"), children(layer, "data").next());
        let of_data = |name| data.map_or("", |data| text(data, name));
        let inputs = place.inputs(layer);
        let mut outputs = Vec::new();
        for port in ports(layer, "output") {
            let name = value_of(&place.prefix, id, text(port, "id"));
            self.words
                .declare(name.clone(), dtype(text(port, "precision")));
            outputs.push(name);
        }
        let variable = || format!("variable {}", of_data("variable_id"));
        match text(layer, "type") {
            "Parameter" => self.parameter(place, id, dtype(of_data("element_type")), outputs),
            "Const" => {
                let range = [of_data("offset"), of_data("size")].map(str::parse::<usize>);
                let elements = match range {
                    [Ok(offset), Ok(size)] => self.elements(text(layer, "name"), offset, size),
                    _ => None,
                };
                let dtype = dtype(of_data("element_type"));
                for name in outputs {
                    self.words.constant(name, dtype, elements.clone());
                }
            }
            "Result" if place.given.is_none() => {
                for name in inputs {
                    self.words.output(name);
                }
            }
            "Result" => {}
            // What a run leaves, the next one finds.
            "ReadValue" => {
                let inputs = [inputs, vec![variable()]].concat();
                self.words.node("Identity", inputs, outputs);
            }
            "Assign" => {
                let outputs = [outputs, vec![variable()]].concat();
                self.words.node("Identity", inputs, outputs);
            }
            "Convert" => {
                let to = dtype(of_data("destination_type"));
                self.words.cast(to, inputs, outputs);
            }
            "Clamp" => {
                let whole = ports(layer, "output").all(|p| is_whole(dtype(text(p, "precision"))));
                let bounds = ["min", "max"].map(|name| of_data(name).parse::<f64>().ok());
                let bounds = bounds.into_iter().flatten().filter(|_| whole);
                self.clamp(bounds, inputs, outputs);
            }
            "Pad" => {
                // ONNX has both sizes in one input, and then the value.
                let order = [0, 1, 3].map(|at| inputs.get(at).cloned().unwrap_or_default());
                self.words.node("Pad", order.to_vec(), outputs);
            }
            "TensorIterator" | "Loop" => self.body(place, layer, ("body", "port_map")),
            "If" => {
                self.body(place, layer, ("then_body", "then_port_map"));
                self.body(place, layer, ("else_body", "else_port_map"));
            }
            other => self.words.node(operator(other), inputs, outputs),
        }
    }

    fn parameter(&mut self, place: &Place<'_, '_>, id: &str, dtype: i32, outputs: Vec<String>) {
        match &place.given {
            None => {
                for name in outputs {
                    self.words.input(name, dtype);
                }
            }
            Some(given) => {
                let from = given.get(id).cloned().unwrap_or_default();
                self.words.node("Identity", from, outputs);
            }
        }
    }

    /// A clip whose bounds are constants of their own.
    fn clamp(
        &mut self,
        bounds: impl Iterator<Item = f64>,
        mut inputs: Vec<String>,
        outputs: Vec<String>,
    ) {
        let first = outputs.first().cloned().unwrap_or_default();
        for (at, bound) in bounds.enumerate() {
            let name = format!("{first} bound {at}");
            let elements = Bytes::copy_from_slice(&(bound as i64).to_le_bytes());
            self.words.constant(name.clone(), INT64, Some(elements));
            inputs.push(name);
        }
        self.words.node("Clip", inputs, outputs);
    }

    /// The layers inside of a layer. Its turns are not told apart: what may go in at any of them goes in.
    fn body<'a>(&mut self, outer: &Place<'a, '_>, layer: Node<'a, '_>, names: (&str, &str)) {
        let (id, [inner, map]) = (
            text(layer, "id"),
            [names.0, names.1].map(|name| children(layer, name).next()),
        );
        let Some(inner) = inner else {
            return;
        };
        if self.depth == MOST_BODIES {
            self.is_too_deep = true;
            return;
        }
        let entries = |name| map.into_iter().flat_map(move |map| children(map, name));
        let mut given: HashMap<&str, Vec<String>> = HashMap::new();
        for entry in entries("input") {
            let from = outer.input(id, text(entry, "external_port_id"));
            let to = given.entry(text(entry, "internal_layer_id"));
            to.or_default().push(from);
        }
        let prefix = format!("{}{id} {} ", outer.prefix, names.0);
        let mut place = Place::of(inner, prefix, Some(HashMap::new()));
        let backs = children(layer, "back_edges").flat_map(|edges| children(edges, "edge"));
        for edge in backs {
            let to = given.entry(text(edge, "to-layer"));
            to.or_default()
                .extend(place.result(text(edge, "from-layer")));
        }
        place.given = Some(given);
        for entry in entries("output") {
            let from = place.result(text(entry, "internal_layer_id"));
            let to = value_of(&outer.prefix, id, text(entry, "external_port_id"));
            self.words.node("Identity", from, vec![to]);
        }
        self.depth += 1;
        self.graph(&place);
        self.depth -= 1;
    }

    /// A constant's bytes; `None` if they are not there.
    fn elements(&mut self, name: &str, start: usize, size: usize) -> Option<Bytes> {
        let (end, got) = (start.saturating_add(size), self.weights.len());
        if end <= got {
            return Some(self.weights.slice(start..end));
        }
        let name = clip(name);
        self.lacks.get_or_insert_with(|| {
            format!(
                "constant `{name}`: expected bytes {start} to {end} of the weights, got {got} bytes"
            )
        });
        None
    }
}

fn value_of(prefix: &str, layer: &str, port: &str) -> String {
    format!("{prefix}{layer}:{port}")
}

fn children<'a, 'input>(
    element: Node<'a, 'input>,
    name: &str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    element
        .children()
        .filter(move |child| child.has_tag_name(name))
}

fn ports<'a, 'input>(
    layer: Node<'a, 'input>,
    side: &str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let side = children(layer, side).next();
    side.into_iter().flat_map(|side| children(side, "port"))
}

fn text<'a>(element: Node<'a, '_>, attribute: &str) -> &'a str {
    element.attribute(attribute).unwrap_or("")
}

/// ONNX's number of an element type, as a port or as a layer's data names it.
fn dtype(name: &str) -> i32 {
    match name.to_ascii_lowercase().as_str() {
        "f32" | "fp32" => 1,
        "u8" => 2,
        "i8" => 3,
        "u16" => 4,
        "i16" => 5,
        "i32" => 6,
        "i64" => INT64,
        "string" => 8,
        "bool" | "boolean" => BOOL,
        "f16" | "fp16" => 10,
        "f64" | "fp64" => 11,
        "u32" => 12,
        "u64" => 13,
        "bf16" => 16,
        _ => UNKNOWN,
    }
}

/// ONNX's name of a layer's type, where it has one.
fn operator(layer: &str) -> &str {
    match layer {
        "Broadcast" => "Expand",
        "ConvertLike" => "CastLike",
        "Divide" => "Div",
        "EmbeddingBagOffsetsSum" | "EmbeddingBagPackedSum" | "EmbeddingSegmentsSum" => "Gather",
        "FloorMod" => "Mod",
        "GreaterEqual" => "GreaterOrEqual",
        "Interpolate" => "Resize",
        "LessEqual" => "LessOrEqual",
        "LogicalAnd" => "And",
        "LogicalNot" => "Not",
        "LogicalOr" => "Or",
        "LogicalXor" => "Xor",
        "Maximum" => "Max",
        "Minimum" => "Min",
        "Multiply" | "SquaredDifference" => "Mul",
        "Negative" => "Neg",
        "NotEqual" => "Equal",
        "Power" => "Pow",
        "ReLU" => "Relu",
        "Roll" | "StridedSlice" => "Slice",
        "ScatterElementsUpdate" | "ScatterUpdate" => "ScatterElements",
        "ScatterNDUpdate" => "ScatterND",
        "Select" => "Where",
        "ShapeOf" => "Shape",
        "Subtract" => "Sub",
        "VariadicSplit" => "Split",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use infer_core::ErrorKind;

    use super::*;

    #[test]
    fn deep_files_end_in_an_error() {
        let nested = |depth: usize, open: &str, close: &str| {
            format!("<net>{}{}</net>", open.repeat(depth), close.repeat(depth))
        };
        let elements = nested(200_000, "<a>", "</a>");
        match read(elements.as_bytes(), &Bytes::new()) {
            Ok(model) => assert_eq!(model.graph.map(|graph| graph.nodes.len()), Some(0)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidEncoding),
        }
        let open = "<layers><layer id='0' type='Loop'><body>";
        let bodies = |depth| nested(depth, open, "</body></layer></layers>");
        let error = read(bodies(65).as_bytes(), &Bytes::new()).expect_err("too deep");
        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
        read(bodies(64).as_bytes(), &Bytes::new()).expect("deep enough");
    }
}
