//! OpenVINO's own form, from files and from memory, with and without state.

mod common;

use bytes::Bytes;
use infer_core::{Encoding, ErrorKind, Source};

/// `y` = `x` + a constant of the weights.
const PLAIN: &str = r#"<?xml version="1.0"?>
<net name="plain" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,2" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="1" name="c" type="Const" version="opset1"><data element_type="f32" shape="1,2" offset="0" size="8"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="2" name="sum" type="Add" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port><port id="1" precision="FP32"><dim>1</dim><dim>2</dim></port></input>
<output><port id="2" precision="FP32" names="y"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="3" name="result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input></layer>
</layers><edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
</edges></net>"#;

/// `y` = the sum of every `x` so far and of the weights.
const STATEFUL: &str = r#"<?xml version="1.0"?>
<net name="stateful" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,2" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="1" name="c" type="Const" version="opset1"><data element_type="f32" shape="1,2" offset="0" size="8"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="2" name="read" type="ReadValue" version="opset6"><data variable_id="v" variable_type="f32" variable_shape="1,2"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input>
<output><port id="1" precision="FP32"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="3" name="sum" type="Add" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port><port id="1" precision="FP32"><dim>1</dim><dim>2</dim></port></input>
<output><port id="2" precision="FP32" names="y"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="4" name="write" type="Assign" version="opset6"><data variable_id="v" variable_type="f32" variable_shape="1,2"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input>
<output><port id="1" precision="FP32"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="5" name="result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input></layer>
</layers><edges>
<edge from-layer="0" from-port="0" to-layer="3" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="2" from-port="1" to-layer="3" to-port="1"/>
<edge from-layer="3" from-port="2" to-layer="4" to-port="0"/>
<edge from-layer="3" from-port="2" to-layer="5" to-port="0"/>
</edges></net>"#;

fn weights() -> Bytes {
    let weights: Vec<u8> = [10f32, 20.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    // At an odd address, as a slice of a guest's bytes may be.
    Bytes::from([vec![0], weights].concat()).slice(1..)
}

fn memory(xml: &str) -> Source {
    Source::Memory(vec![Bytes::copy_from_slice(xml.as_bytes()), weights()])
}

#[test]
fn files_and_memory_give_the_same() {
    let Some(engine) = common::engine("files_and_memory_give_the_same") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    for (name, bytes) in [
        ("model.xml", PLAIN.as_bytes()),
        ("model.bin", &weights()),
        ("other-xml", PLAIN.as_bytes()),
        ("other-weights", &weights()),
    ] {
        std::fs::write(at(name), bytes).expect("a file");
    }
    let sources = [
        memory(PLAIN),
        Source::Files(vec![at("model.xml")]),
        Source::Files(vec![at("model.xml"), at("model.bin")]),
        Source::Files(vec![at("other-xml"), at("other-weights")]),
    ];
    for source in sources {
        let what = format!("{source:?}");
        let graph = common::load(&engine, &common::request(Encoding::OpenVino, source));
        let graph = graph.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        let signature = graph.signature();
        assert_eq!(signature.inputs[0].name, "x");
        assert_eq!(signature.outputs[0].name, "y");
        assert!(!signature.stateful);
        let mut session = graph.session().expect("a session");
        let outputs = common::run(session.as_mut(), vec![common::floats(&[1, 2], &[1.0, 2.0])]);
        let outputs = outputs.expect(&what);
        assert_eq!(common::read_floats(&outputs[0]), [11.0, 22.0]);
    }
}

#[test]
fn state_belongs_to_one_session_and_is_reset() {
    let Some(engine) = common::engine("state_belongs_to_one_session_and_is_reset") else {
        return;
    };
    let request = common::request(Encoding::OpenVino, memory(STATEFUL));
    let graph = common::load(&engine, &request).expect("a stateful model");
    assert!(graph.signature().stateful);
    let mut one = graph.session().expect("a session");
    let mut other = graph.session().expect("a session");
    let step = |session: &mut dyn infer_core::Session| {
        let outputs = common::run(session, vec![common::floats(&[1, 2], &[1.0, 2.0])]);
        common::read_floats(&outputs.expect("a run")[0])
    };
    assert_eq!(step(one.as_mut()), [11.0, 22.0]);
    assert_eq!(step(one.as_mut()), [12.0, 24.0]);
    assert_eq!(
        step(other.as_mut()),
        [11.0, 22.0],
        "state of another session"
    );
    assert_eq!(step(one.as_mut()), [13.0, 26.0]);
    one.reset().expect("a reset");
    assert_eq!(
        step(one.as_mut()),
        [11.0, 22.0],
        "state from before the reset"
    );
    assert_eq!(
        step(other.as_mut()),
        [12.0, 24.0],
        "reset by another session"
    );
}

/// A model without constants needs no second part, by any way in; one with constants does.
#[test]
fn weights_are_needed_for_constants_alone() {
    let Some(engine) = common::engine("weights_are_needed_for_constants_alone") else {
        return;
    };
    let bare = std::fs::read(common::testdata("network").with_file_name("no-weights.xml"));
    let bare = Bytes::from(bare.expect("a test model"));
    for parts in [vec![bare.clone()], vec![bare, Bytes::new()]] {
        let request = common::request(Encoding::OpenVino, Source::Memory(parts));
        let graph = common::load(&engine, &request);
        graph.unwrap_or_else(|error| panic!("without constants: {}", error.report()));
    }
    let plain = Bytes::copy_from_slice(PLAIN.as_bytes());
    let request = common::request(Encoding::OpenVino, Source::Memory(vec![plain]));
    let error = common::load(&engine, &request).err().expect("no weights");
    assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
    let report = error.report();
    assert!(
        report.contains("constant `c`: expected bytes 0 to 8 of the weights, got 0 bytes"),
        "{report}"
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("second part"))
    );
}

#[test]
fn what_is_no_model_is_told() {
    let Some(engine) = common::engine("what_is_no_model_is_told") else {
        return;
    };
    let of = |xml: &str| common::request(Encoding::OpenVino, memory(xml));
    let unknown = PLAIN.replace("type=\"Add\"", "type=\"Frobnicate\"");
    let reaching = PLAIN.replace(
        "</edges>",
        "</edges><rt_info><__weights_path value=\"/etc/hostname\"/></rt_info>",
    );
    let too_long = PLAIN.replace("size=\"8\"", "size=\"800000\"");
    let cases = [
        (of("text"), ErrorKind::InvalidEncoding, "expected XML"),
        (of("<net></net>"), ErrorKind::InvalidEncoding, ""),
        (of(&PLAIN[..900]), ErrorKind::InvalidEncoding, ""),
        (of(&too_long), ErrorKind::InvalidEncoding, ""),
        (of(&unknown), ErrorKind::UnsupportedOperation, "Frobnicate"),
        (of(&reaching), ErrorKind::Security, "weights_path"),
        (
            common::request(Encoding::OpenVino, Source::Memory(vec![Bytes::new(); 3])),
            ErrorKind::InvalidArgument,
            "1 or 2 parts, got 3",
        ),
    ];
    for (request, kind, text) in &cases {
        let error = common::load(&engine, request).err().expect(text);
        assert_eq!(error.kind(), *kind, "{}", error.report());
        assert!(error.report().contains(text), "{text}: {}", error.report());
    }
}
