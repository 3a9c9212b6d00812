//! Numbers that OpenVINO would compute wrongly in TensorFlow Lite models, and variables that it would not keep.

mod common;

use infer_core::{Encoding, ErrorKind, Precision, Result, Source};

/// TensorFlow Lite's numbers of element types.
const FLOAT: u8 = 0;
const INT32: u8 = 2;
const INT64: u8 = 4;
const BOOL: u8 = 6;

const ADD: u8 = 0;
const MUL: u8 = 18;
const CAST: u8 = 53;
const LESS: u8 = 58;
const EQUAL: u8 = 71;
const SHAPE: u8 = 77;
const FLOOR_MOD: u8 = 95;

const WIDE: &str = "in 32 bits, and the result";
const ROUNDED: &str = "in f32, which rounds";
const COMPARED: &str = "takes large ones for equal";

/// What may stand in a table's slot.
enum Item {
    Byte(u8),
    Int(u32),
    Table(Vec<(usize, Item)>),
    Tables(Vec<Item>),
    Ints(Vec<u32>),
    Bytes(Vec<u8>),
}

/// Appends an item, each part after what leads to it, and gives its place.
fn place(file: &mut Vec<u8>, item: &Item) -> usize {
    while !file.len().is_multiple_of(8) {
        file.push(0);
    }
    let at = file.len();
    let count = |file: &mut Vec<u8>, count: usize| file.extend((count as u32).to_le_bytes());
    match item {
        Item::Byte(_) | Item::Int(_) => unreachable!("it stands in a table itself"),
        Item::Ints(numbers) => {
            count(file, numbers.len());
            file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Item::Bytes(bytes) => {
            count(file, bytes.len());
            file.extend(bytes);
        }
        Item::Tables(tables) => {
            count(file, tables.len());
            file.resize(at + 4 + 4 * tables.len(), 0);
            for (index, table) in tables.iter().enumerate() {
                lead(file, at + 4 + 4 * index, table);
            }
        }
        Item::Table(slots) => {
            // The list of slots, then the table, in which each slot takes 4 bytes.
            let most = slots.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
            let list = 4 + 2 * most;
            let table = (at + list).next_multiple_of(4);
            let mut places = vec![0u16; most];
            for (index, (slot, _)) in slots.iter().enumerate() {
                places[*slot] = 4 + 4 * index as u16;
            }
            file.extend((list as u16).to_le_bytes());
            file.extend((4 + 4 * slots.len() as u16).to_le_bytes());
            file.extend(places.iter().flat_map(|place| place.to_le_bytes()));
            file.resize(table + 4 + 4 * slots.len(), 0);
            let back = (table - at) as u32;
            file[table..table + 4].copy_from_slice(&back.to_le_bytes());
            for (index, (_, item)) in slots.iter().enumerate() {
                let here = table + 4 + 4 * index;
                match item {
                    Item::Byte(byte) => file[here] = *byte,
                    Item::Int(number) => {
                        file[here..here + 4].copy_from_slice(&number.to_le_bytes());
                    }
                    other => lead(file, here, other),
                }
            }
            return table;
        }
    }
    at
}

/// Writes where an item is to be found.
fn lead(file: &mut Vec<u8>, from: usize, item: &Item) {
    let to = place(file, item);
    file[from..from + 4].copy_from_slice(&((to - from) as u32).to_le_bytes());
}

/// A model under construction.
#[derive(Default)]
struct Lite {
    tensors: Vec<Item>,
    buffers: Vec<Item>,
    operators: Vec<Item>,
    codes: Vec<Item>,
    inputs: Vec<u32>,
}

impl Lite {
    fn tensor(&mut self, dtype: u8, shape: &[u32], data: &[u8], more: Vec<(usize, Item)>) -> u32 {
        let index = self.tensors.len() as u32;
        let buffer = vec![(0, Item::Bytes(data.to_vec()))];
        self.buffers.push(Item::Table(match data.is_empty() {
            true => Vec::new(),
            false => buffer,
        }));
        let slots = vec![
            (0, Item::Ints(shape.to_vec())),
            (1, Item::Byte(dtype)),
            (2, Item::Int(index + 1)),
            (3, Item::Bytes(format!("t{index}").into_bytes())),
        ];
        self.tensors
            .push(Item::Table(slots.into_iter().chain(more).collect()));
        index
    }

    fn input(&mut self, dtype: u8) -> u32 {
        let index = self.tensor(dtype, &[4], &[], Vec::new());
        self.inputs.push(index);
        index
    }

    /// An operator of which the options are a table of this number in the union.
    fn operator(&mut self, code: u8, options: (u8, Item), inputs: &[u32], to: (u8, u32)) -> u32 {
        let output = self.tensor(to.0, &[to.1], &[], Vec::new());
        let index = self.codes.len() as u32;
        let code = [(0, Item::Byte(code)), (3, Item::Int(code.into()))];
        self.codes.push(Item::Table(code.into()));
        let (kind, table) = options;
        let slots = [
            (0, Item::Int(index)),
            (1, Item::Ints(inputs.to_vec())),
            (2, Item::Ints(vec![output])),
            (3, Item::Byte(kind)),
            (4, table),
        ];
        self.operators.push(Item::Table(slots.into()));
        output
    }

    fn bytes(mut self, output: u32) -> Vec<u8> {
        self.buffers.insert(0, Item::Table(Vec::new()));
        let graph = vec![
            (0, Item::Tables(self.tensors)),
            (1, Item::Ints(self.inputs)),
            (2, Item::Ints(vec![output])),
            (3, Item::Tables(self.operators)),
        ];
        let model = Item::Table(vec![
            (0, Item::Int(3)),
            (1, Item::Tables(self.codes)),
            (2, Item::Tables(vec![Item::Table(graph)])),
            (4, Item::Tables(self.buffers)),
        ]);
        let mut file = b"\0\0\0\0TFL3".to_vec();
        lead(&mut file, 0, &model);
        file
    }
}

fn options(code: u8, activation: u8) -> (u8, Item) {
    let kind = match code {
        ADD => 11,
        MUL => 21,
        CAST => 37,
        LESS => 44,
        EQUAL => 53,
        SHAPE => 55,
        FLOOR_MOD => 72,
        other => panic!("operator {other}"),
    };
    let slots = match code {
        ADD | MUL => vec![(0, Item::Byte(activation))],
        SHAPE => vec![(0, Item::Byte(INT64))],
        _ => Vec::new(),
    };
    (kind, Item::Table(slots))
}

fn binary(code: u8, dtype: u8, to: u8, activation: u8) -> Vec<u8> {
    let mut lite = Lite::default();
    let inputs = [lite.input(dtype), lite.input(dtype)];
    let output = lite.operator(code, options(code, activation), &inputs, (to, 4));
    lite.bytes(output)
}

fn load(bytes: Vec<u8>, precision: Precision) -> Result<()> {
    let engine = common::engine("lite_numbers").expect("asked for before");
    let source = Source::Memory(vec![bytes.into()]);
    let mut request = common::request(Encoding::TensorFlowLite, source);
    request.options.precision = precision;
    common::load(&engine, &request).map(drop)
}

fn refused(what: &str, bytes: Vec<u8>, expected: &str) {
    let error = load(bytes, Precision::F32).expect_err(what);
    let report = error.report();
    assert_eq!(
        error.kind(),
        ErrorKind::UnsupportedOperation,
        "{what}: {report}"
    );
    assert!(report.contains(expected), "{what}: {report}");
}

fn runs(what: &str, bytes: Vec<u8>) {
    load(bytes, Precision::F32).unwrap_or_else(|error| panic!("{what}: {}", error.report()));
}

#[test]
fn operators_are_refused_by_dtype() {
    if common::engine("operators_are_refused_by_dtype").is_none() {
        return;
    }
    const NO_ACTIVATION: u8 = 0;
    const RELU: u8 = 1;
    for (code, dtype, to, activation, expected) in [
        (ADD, INT64, INT64, NO_ACTIVATION, WIDE),
        (MUL, INT64, INT64, NO_ACTIVATION, WIDE),
        (FLOOR_MOD, INT32, INT32, NO_ACTIVATION, ROUNDED),
        (ADD, INT32, INT32, RELU, ROUNDED),
        (LESS, INT32, BOOL, NO_ACTIVATION, COMPARED),
        (EQUAL, INT64, BOOL, NO_ACTIVATION, COMPARED),
    ] {
        let what = format!("operator {code} of {dtype}");
        refused(&what, binary(code, dtype, to, activation), expected);
        let to = if to == BOOL { BOOL } else { FLOAT };
        runs(
            &format!("{code} of f32"),
            binary(code, FLOAT, to, activation),
        );
    }
    runs("a sum of i32", binary(ADD, INT32, INT32, NO_ACTIVATION));
    let auto = load(binary(ADD, INT64, INT64, NO_ACTIVATION), Precision::Auto);
    auto.expect("`auto` allows it");
}

#[test]
fn sizes_and_small_constants_run() {
    if common::engine("sizes_and_small_constants_run").is_none() {
        return;
    }
    let mut lite = Lite::default();
    let x = lite.input(FLOAT);
    let shape = lite.operator(SHAPE, options(SHAPE, 0), &[x], (INT64, 1));
    let product = lite.operator(MUL, options(MUL, 0), &[shape, shape], (INT64, 1));
    let shown = lite.operator(CAST, options(CAST, 0), &[product], (FLOAT, 1));
    runs("computed from shapes", lite.bytes(shown));

    let compared = |with: i64| {
        let mut lite = Lite::default();
        let x = lite.input(INT64);
        let constant = lite.tensor(INT64, &[1], &with.to_le_bytes(), Vec::new());
        let less = lite.operator(LESS, options(LESS, 0), &[x, constant], (BOOL, 4));
        lite.bytes(less)
    };
    runs("a small constant", compared(1 << 24));
    refused("a large constant", compared((1 << 24) + 1), COMPARED);
    refused("one of 33 bits", compared(1 << 32), "has larger ones");
}

#[test]
fn variables_and_broken_files_are_refused() {
    if common::engine("variables_and_broken_files_are_refused").is_none() {
        return;
    }
    let mut lite = Lite::default();
    let x = lite.input(FLOAT);
    let variable = lite.tensor(FLOAT, &[4], &[], vec![(5, Item::Byte(1))]);
    let sum = lite.operator(ADD, options(ADD, 0), &[x, variable], (FLOAT, 4));
    refused("a variable", lite.bytes(sum), "each run starts anew");

    let whole = binary(ADD, FLOAT, FLOAT, 0);
    for length in [9, 60, whole.len() / 2] {
        let error = load(whole[..length].to_vec(), Precision::F32).expect_err("cut short");
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidEncoding,
            "{}",
            error.report()
        );
    }
}
