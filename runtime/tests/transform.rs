//! Guests that are models (`infer:nn/transform`): what goes in and comes out, and what becomes of one that does wrong.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Abi;
use infer::{
    Answering, End, Engine, EngineConfig, Guest, Instance, Model, Registry, Role, Scheduling,
};
use infer_core::testing::FakeBackend;
use infer_core::{Backend, Cancel, Dtype, Encoding, Error, ErrorKind, Result, Signature, Tensor};

/// What a guest answers, and how its instance ends.
async fn asked<T>(answering: Result<Answering<T>>) -> (Option<Result<T>>, End) {
    let Answering {
        answer, outcome, ..
    } = answering.expect("it is a model");
    let (answer, outcome) = tokio::join!(answer, outcome);
    assert_eq!(
        (outcome.usage.bytes(), outcome.usage.handles()),
        (0, 0),
        "its books are closed"
    );
    (answer.ok(), outcome.end)
}

fn misfit() -> Guest {
    common::guest("misfit", Abi::Component)
}

/// Two models of the fake backend, which gives its inputs back as they are.
fn instance() -> Instance {
    let mut registry = Registry::default();
    for name in ["first", "second"] {
        let fake = FakeBackend::new();
        common::add_fake(&mut registry, &fake, name, "identity f32 [?]");
    }
    common::instance(&[], Arc::new(registry))
}

async fn signature(guest: &Guest) -> Signature {
    let (described, _) = asked(guest.describe(instance())).await;
    described.expect("an answer").expect("a description")
}

fn inputs(what: &str) -> Vec<Tensor> {
    let bytes: Vec<u8> = [1.0f32, -2.5]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    vec![
        Tensor::of_strings(vec![1], &[what]).expect("a string"),
        Tensor::copied_from(Dtype::F32, vec![2], &bytes).expect("two numbers"),
    ]
}

async fn transform(
    guest: &Guest,
    instance: Instance,
    what: &str,
) -> (Option<Result<Vec<Tensor>>>, End) {
    let signature = signature(guest).await;
    asked(guest.transform(instance, &signature, inputs(what))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_describes_itself() {
    let guest = misfit();
    assert_eq!(guest.role(), Role::Model);
    let signature = signature(&guest).await;
    let shown = |infos: &[infer_core::TensorInfo]| -> Vec<String> {
        infos
            .iter()
            .map(|info| format!("{}: {info}", info.name))
            .collect()
    };
    assert_eq!(shown(&signature.inputs), ["do: string [1]", "x: f32 [?]"]);
    assert_eq!(
        shown(&signature.outputs),
        ["y: f32 [?]", "note: string [1]"]
    );
    let cases = [
        ("refuse", ErrorKind::RuntimeError, "does not feel like it"),
        (
            "twice",
            ErrorKind::InvalidArgument,
            "two outputs have the name `y`",
        ),
    ];
    for (how, kind, text) in cases {
        let mut instance = instance();
        instance.grants.env = vec![("MISFIT".to_owned(), how.to_owned())];
        let (described, end) = asked(guest.describe(instance)).await;
        let error = described.expect("an answer").expect_err(how);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(matches!(end, End::Exited(0)), "{end:?}");
    }
    let mut instance = instance();
    instance.grants.env = vec![("MISFIT".to_owned(), "trap".to_owned())];
    let (described, end) = asked(guest.describe(instance)).await;
    assert!(
        described.is_none() && matches!(end, End::Trapped(_)),
        "{end:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_go_in_through_models_and_out_without_a_copy() {
    let guest = misfit();
    let signature = signature(&guest).await;
    for what in ["pass", "through first", "through first second first"] {
        let given = inputs(what);
        let place = given[1].host().expect("in host memory").as_ptr();
        let (answer, end) = asked(guest.transform(instance(), &signature, given)).await;
        let outputs = answer.expect("an answer").expect("outputs");
        assert!(matches!(end, End::Exited(0)), "{end:?}");
        let y = outputs[0].host().expect("in host memory");
        assert_eq!(y.as_ptr(), place, "{what}: the same memory");
        assert_eq!(y, inputs(what)[1].host().expect("in host memory"));
        assert_eq!(outputs[1].strings().expect("strings"), [what]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_refuses_is_its_callers_to_read() {
    let guest = misfit();
    let cases = [
        ("refuse", "the inputs are not to its liking"),
        ("dance", "it cannot `dance`"),
        ("through third", "no model is named `third`"),
    ];
    for (what, text) in cases {
        let (answer, end) = transform(&guest, instance(), what).await;
        let error = answer.expect("an answer").expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(matches!(end, End::Exited(0)), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_busy_makes_a_guest_busy() {
    let (fake, mut registry) = (FakeBackend::new(), Registry::default());
    let graph = fake
        .load(
            &FakeBackend::request("identity f32 [?]; slow 2s; concurrency 1"),
            &Cancel::default(),
        )
        .expect("a description");
    let model = Model::new("slow", "fake", Encoding::Onnx, graph);
    let scheduling = Scheduling {
        queue: 0,
        ..Scheduling::default()
    };
    let model = model.scheduled(&scheduling).expect("without batches");
    registry.add(model, None).expect("a new name");
    let (guest, registry) = (Arc::new(misfit()), Arc::new(registry));
    let (first, instance) = (guest.clone(), common::instance(&[], registry.clone()));
    let first = tokio::spawn(async move { transform(&first, instance, "through slow").await });
    while fake.counters().running() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let instance = common::instance(&[], registry);
    let (answer, _) = transform(&guest, instance, "through slow").await;
    let error = answer.expect("an answer").expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let (answer, _) = first.await.expect("no panic");
    answer.expect("an answer").expect("outputs");
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_must_be_as_described() {
    let guest = misfit();
    let cases = [
        ("another-type", "output `y`: expected f32 [?], got u8 [2]"),
        (
            "another-rank",
            "output `y`: expected f32 [?], got f32 [1, 1]",
        ),
        ("missing", "missing output `note`: expected string [1]"),
        ("unknown", "unknown output `z`"),
        ("twice", "output `note` is given twice"),
    ];
    for (what, text) in cases {
        let (answer, _) = transform(&guest, instance(), what).await;
        let error: Error = answer.expect("an answer").expect_err(what);
        assert_eq!(error.kind(), ErrorKind::RuntimeError, "{error}");
        assert!(error.report().contains(text), "{what}: {}", error.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_models_too() {
    let guest = misfit();
    let (answer, end) = transform(&guest, instance(), "trap").await;
    assert!(
        answer.is_none() && matches!(end, End::Trapped(_)),
        "{end:?}"
    );
    let mut limited = instance();
    limited.limits.timeout = Some(Duration::from_millis(300));
    let (answer, end) = transform(&guest, limited, "loop").await;
    assert!(
        answer.is_none() && matches!(end, End::TimedOut(_)),
        "{end:?}"
    );
    let mut limited = instance();
    limited.limits.memory = 16 << 20;
    let (answer, end) = transform(&guest, limited, "hog").await;
    assert!(
        answer.is_none() && matches!(end, End::Trapped(_)),
        "{end:?}"
    );
    let mut limited = instance();
    limited.limits.tensor_bytes = 10;
    let (answer, _) = transform(&guest, limited, "pass").await;
    let error = answer.expect("an answer").expect_err("over the limit");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("an input of"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_guest_does_what_it_is_for() {
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    let compiled = |name| Guest::compile(&engine, &common::guest_bytes(name, Abi::Component));
    let command = compiled("hello").expect("a guest");
    assert_eq!(command.role(), Role::Command);
    let error = command.describe(instance()).err().expect("no model");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.to_string().contains("infer:nn/transform"), "{error}");
    assert_eq!(
        compiled("classify-http").expect("a guest").role(),
        Role::Http
    );
    let model = compiled("classify-model").expect("a guest");
    let ran = common::run(&model, instance(), Vec::new()).await;
    match ran.end {
        End::Failed(error) => assert!(error.to_string().contains("is a model"), "{error}"),
        end => panic!("a model cannot be run: {end:?}"),
    }
}
