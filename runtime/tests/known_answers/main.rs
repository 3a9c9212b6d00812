//! The known models, on every engine: what each answers is compared with `models/testdata/known-answers.json`, and
//! with what the other engines and the other forms of the model answer. What an engine refuses stands here.
//!
//! Needs the models (`infer models get`), the photos and the sound (`scripts/get-photos`, `scripts/get-speech`).

mod engines;
mod known;
mod pictures;
mod recipes;
mod sound;

use infer_core::Result;
use infer_models::{Model, ModelRef, ModelStore};

use engines::Loaded;
use known::{Entry, Known};

/// Makes the inputs of an entry, runs them, checks each answer, and gives the numbers in which engines must agree.
type Recipe = fn(&Entry, &mut Loaded) -> Result<Vec<Vec<f32>>>;

/// A model that an engine does not run, and what it says.
struct Refusal {
    engine: &'static str,
    model: &'static str,
    says: &'static str,
}

const fn refusal(engine: &'static str, model: &'static str, says: &'static str) -> Refusal {
    Refusal {
        engine,
        model,
        says,
    }
}

const ORT_LITE: &str =
    "no backend reads models of encoding `tensorflowlite`: onnxruntime reads onnx";
const ORT_TENSORFLOW: &str =
    "no backend reads models of encoding `tensorflow`: onnxruntime reads onnx";
const ORT_IR: &str = "no backend reads models of encoding `openvino`: onnxruntime reads onnx";
const TRACT_TENSORFLOW: &str = "no backend reads models of encoding `tensorflow`: tract reads onnx";
const TRACT_IR: &str = "no backend reads models of encoding `openvino`: tract reads onnx";

/// Everything that is refused; whatever is not listed must run, and what is listed must not.
const REFUSED: [Refusal; 10] = [
    refusal("onnxruntime", "efficientnet-lite0-ir", ORT_IR),
    refusal("onnxruntime", "efficientnet-lite0-tf", ORT_TENSORFLOW),
    refusal("onnxruntime", "efficientnet-lite0-tflite", ORT_LITE),
    refusal("onnxruntime", "basic-pitch-tflite", ORT_LITE),
    refusal("onnxruntime", "basic-pitch-saved-model", ORT_TENSORFLOW),
    refusal("tract", "efficientnet-lite0-ir", TRACT_IR),
    refusal("tract", "efficientnet-lite0-tf", TRACT_TENSORFLOW),
    refusal(
        "tract",
        "basic-pitch-tflite",
        "tract does not run TensorFlow Lite models with `model_1/normalized_log_1/Shape",
    ),
    refusal("tract", "basic-pitch-saved-model", TRACT_TENSORFLOW),
    refusal(
        "tract",
        "silero-vad-rate",
        "tract would run `Slice` wrongly: it ignores `steps` where `starts` or `ends` are computed",
    ),
];

#[test]
fn efficientnet_lite0_in_four_forms() {
    check("efficientnet-lite0", recipes::photos::classes);
}

#[test]
fn opennsfw() {
    check("opennsfw", recipes::photos::classes);
}

#[test]
fn resnet50_imgsim() {
    check("resnet50-imgsim", recipes::photos::embedding);
}

#[test]
fn silero_vad_with_its_state() {
    check("silero-vad", recipes::speech::probabilities);
}

#[test]
fn basic_pitch_in_three_encodings() {
    check("basic-pitch", recipes::notes::pitch);
}

#[test]
fn text_is_found() {
    check("pp-ocrv4-det", recipes::text::found);
}

#[test]
fn text_upside_down_is_told() {
    check("pp-ocrv4-cls", recipes::text::upside_down);
}

#[test]
fn text_is_read() {
    check("pp-ocrv4-rec", recipes::text::read);
}

#[test]
fn three_models_read_a_page() {
    let entry = &Known::get().together;
    let models = [0, 1, 2].map(|index| open(&entry.models[index]));
    let lines: Vec<String> = entry.answers();
    for engine in engines::that_are_there() {
        if models.iter().any(|it| refused(engine, &it.name).is_some()) {
            continue;
        }
        let [find, turn, read] = models.each_ref().map(|it| Loaded::new(engine, it));
        let read = (|| recipes::text::page(entry, [&mut find?, &mut turn?, &mut read?]))();
        let read = read.unwrap_or_else(|error| panic!("{engine}: {}", error.report()));
        assert!(read.starts_with(&lines), "{engine}: {read:#?}");
    }
}

#[test]
fn all_minilm_l6_v2() {
    check("all-minilm-l6-v2", recipes::sentences::products);
}

#[test]
fn magika() {
    check("magika", recipes::files::types);
}

#[test]
fn every_known_model_has_answers() {
    let store = ModelStore::from_environment().expect("a store");
    let known = store.list().expect("the known models");
    let mut known: Vec<&str> = known
        .iter()
        .filter(|entry| entry.known)
        .map(|entry| entry.name.as_str())
        .collect();
    let mut answered: Vec<&str> = Known::get()
        .models
        .iter()
        .flat_map(|entry| entry.models.iter().map(String::as_str))
        .collect();
    known.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, known);
    for Refusal { engine, model, .. } in &REFUSED {
        assert!(known.contains(model), "{model}");
        assert!(infer::Backends::NAMES.contains(engine), "{engine}");
    }
}

/// Holds every model of the entry that begins with `first` against it, on every engine.
fn check(first: &str, recipe: Recipe) {
    let entry = Entry::of(first);
    let engines = engines::that_are_there();
    let mut reference = None;
    for name in &entry.models {
        let model = open(name);
        for &engine in &engines {
            let what = format!("{engine}, {name}");
            let answered = Loaded::new(engine, &model).and_then(|mut it| recipe(entry, &mut it));
            match (answered, refused(engine, name)) {
                (Ok(numbers), None) => {
                    let (other, same) =
                        reference.get_or_insert_with(|| (what.clone(), numbers.clone()));
                    entry.agree((&what, &numbers), (other, same));
                }
                (Err(error), Some(row)) => {
                    let report = error.report();
                    assert!(report.contains(row.says), "{what}: {report}");
                }
                (Err(error), None) => panic!("{what}: {}", error.report()),
                (Ok(_), Some(_)) => panic!("{what} runs: take it out of the list of refusals"),
            }
        }
    }
}

fn refused(engine: &str, model: &str) -> Option<&'static Refusal> {
    REFUSED
        .iter()
        .find(|row| (row.engine, row.model) == (engine, model))
}

/// An installed model, its digests checked.
fn open(name: &str) -> Model {
    let store = ModelStore::from_environment().expect("a store");
    let reference: ModelRef = name.parse().expect("a name");
    let model = reference.open(&store);
    model.unwrap_or_else(|error| panic!("{}", error.report()))
}
