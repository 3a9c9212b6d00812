//! The guest examples that are made to be served, by `infer serve` with the models that they are for.

mod common;

#[path = "common/observers.rs"]
mod observers;

#[path = "common/server.rs"]
mod server;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Abi, guest_path, onnxruntime_is_there, root, test_model};
use serde_json::{Value, json};
use server::{Answer, Server, send, wait_for};

/// The path of a component.
fn component(name: &str) -> String {
    guest_path(name, Abi::Component)
        .to_string_lossy()
        .into_owned()
}

/// A file that is brought, not committed.
fn photo(name: &str) -> Vec<u8> {
    let path = root().join("photos").join(name);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}: run scripts/get-photos", path.display());
    })
}

fn argmax() -> String {
    format!("argmax={}", test_model("argmax").to_string_lossy())
}

/// Asks a model by the Open Inference Protocol: strings and floats as JSON, in one dimension.
fn infer(server: &Server, model: &str, inputs: &Value) -> Answer {
    let body = json!({ "inputs": inputs }).to_string();
    server.post(&format!("/v2/models/{model}/infer"), body.as_bytes())
}

/// Asks a model with one input `image`, the bytes of a file after the JSON.
fn infer_image(server: &Server, model: &str, file: &[u8]) -> Answer {
    let size = file.len() + 4;
    let head = json!({ "inputs": [{
        "name": "image", "shape": [1], "datatype": "BYTES", "parameters": { "binary_data_size": size }
    }]})
    .to_string();
    let length = u32::try_from(file.len()).expect("a small file");
    let body = [head.as_bytes(), &length.to_le_bytes(), file].concat();
    let request = ureq::http::Request::builder()
        .method("POST")
        .uri(format!("http://{}/v2/models/{model}/infer", server.http))
        .header("inference-header-content-length", head.len().to_string())
        .body(body.as_slice())
        .expect("a request");
    send(request).expect("an answer")
}

/// The data of an output.
fn output(answer: &Answer, name: &str) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let outputs = answer["outputs"].as_array().expect("outputs");
    let found = outputs.iter().find(|output| output["name"] == name);
    found.expect("the output")["data"].clone()
}

/// What `/metrics` says.
fn metrics(server: &Server) -> String {
    let request = ureq::http::Request::get(format!("http://{}/metrics", server.metrics));
    let metrics = send(request.body(&[][..]).expect("a request")).expect("metrics");
    metrics.text()
}

/// The number in the first line that starts so.
fn value(metrics: &str, start: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("{start} in\n{metrics}"));
    let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
    value.expect("a number")
}

#[test]
fn classify_http_says_what_is_on_a_photo() {
    let server = Server::start(&[&component("classify-http"), "--model", "efficientnet-lite0"]);
    let cases = [
        ("coffee.png", "espresso"),
        ("camera.png", "tripod"),
        ("macaque.jpg", "macaque"),
    ];
    for (name, label) in cases {
        let answer = server.post("/?top=2", &photo(name));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/json");
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let classes = answer["classes"].as_array().expect("classes");
        assert_eq!(
            (&classes[0]["label"], classes.len()),
            (&json!(label), 2),
            "{name}"
        );
        assert!(
            classes[0]["probability"].as_f64() > Some(0.8),
            "{name}: {classes:?}"
        );
    }
    let coffee = photo("coffee.png");
    let cases: [(&str, &str, &[u8], u16, &str); 5] = [
        ("GET", "/", &[], 405, "expected POST"),
        ("POST", "/?top=0", &coffee, 400, "for `top`, got `0`"),
        ("POST", "/", b"hello", 415, "expected a JPEG or PNG picture"),
        ("POST", "/", &[], 415, "expected a JPEG or PNG picture"),
        (
            "POST",
            "/",
            &coffee[..9000],
            400,
            "cannot decode the picture",
        ),
    ];
    for (method, path, body, status, text) in cases {
        let answer = server.send(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(
            answer.text().contains(text),
            "{method} {path}: {}",
            answer.text()
        );
    }
    assert_eq!(server.get("/").headers["allow"], "POST");
}

#[test]
fn classify_model_is_a_model_like_any_other() {
    let server = Server::start(&[
        &component("classify-model"),
        "--model",
        "efficientnet-lite0",
    ]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models/classify-model/ready").status, 200);
    let metadata = server.get("/v2/models/classify-model");
    let metadata: Value = serde_json::from_slice(&metadata.body).expect("JSON");
    assert_eq!(metadata["platform"], "infer_guest");
    let image = json!([{ "name": "image", "datatype": "BYTES", "shape": [1] }]);
    assert_eq!(metadata["inputs"], image);
    let answer = infer_image(&server, "classify-model", &photo("coffee.png"));
    assert_eq!(output(&answer, "labels")[0], "espresso");
    let scores = output(&answer, "scores");
    assert!(scores[0].as_f64() > Some(0.9), "{scores}");
    assert_eq!(scores.as_array().map(Vec::len), Some(5));
    let text = json!([{ "name": "image", "datatype": "BYTES", "shape": [1], "data": ["hello"] }]);
    let answer = infer(&server, "classify-model", &text);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("expected a JPEG or PNG picture"),
        "{}",
        answer.text()
    );
    // The guest's call is its model's too, but no client asked that.
    let counts = |model: &str| {
        let statistics = server.get(&format!("/v2/models/{model}/stats"));
        let statistics: Value = serde_json::from_slice(&statistics.body).expect("JSON");
        let all = &statistics["model_stats"][0]["inference_stats"];
        ["success", "fail", "queue", "compute_infer"].map(|name| all[name]["count"].as_u64())
    };
    let expected = [Some(1); 4];
    wait_for("both to be counted", || {
        counts("classify-model") == expected
    });
    assert_eq!(counts("efficientnet-lite0"), [0, 0, 1, 1].map(Some));
    let status = ureq::http::Request::get(format!("http://{}/status.json", server.metrics));
    let status = send(status.body(&[][..]).expect("a request")).expect("an answer");
    let status: Value = serde_json::from_slice(&status.body).expect("JSON");
    assert_eq!(status["guests"][0]["route"], Value::Null, "it has none");
}

#[test]
fn read_page_reads_a_page_by_four_models() {
    let (guest, argmax) = (component("read-page"), argmax());
    let server = Server::start(&[
        &guest,
        "--model",
        "pp-ocrv4-det",
        "--model",
        "pp-ocrv4-cls",
        "--model",
        "pp-ocrv4-rec",
        "--model",
        &argmax,
    ]);
    let answer = infer_image(&server, "read-page", &photo("page.png"));
    let text = output(&answer, "text");
    let lines: Vec<String> = text
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| line.as_str().expect("text").replace(' ', ""))
        .collect();
    let known = root().join("models/testdata/known-answers.json");
    let known: Value =
        serde_json::from_slice(&std::fs::read(known).expect("readable")).expect("JSON");
    let expected: Vec<&str> = known["together"]["answers"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| line.as_str().expect("text"))
        .collect();
    assert_eq!(lines[..expected.len()], expected);
    let confidence = output(&answer, "confidence");
    assert!(confidence[0].as_f64() > Some(0.8), "{confidence}");
}

#[test]
fn a_guest_is_as_ready_as_the_models_that_it_was_granted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, identity) = (folder.path().join("infer.toml"), test_model("identity-f32"));
    let text = format!(
        "[server]\nallow-model-control = true\n[model.first]\nref = {identity:?}\n[model.second]\nref = {identity:?}\n\
         [guest.misfit]\nwasm = {:?}\nmodels = [\"first\"]\n",
        component("misfit")
    );
    std::fs::write(&file, text).expect("written");
    let server = Server::start(&["--config", file.to_str().expect("UTF-8")]);
    let change = |model: &str, change: &str| {
        let path = format!("/v2/repository/models/{model}/{change}");
        assert_eq!(server.post(&path, b"{}").status, 200, "{path}");
    };
    let is_ready = |status: u16| {
        let answer = server.get("/v2/models/misfit/ready");
        assert_eq!(answer.status, status, "{}", answer.text());
    };
    is_ready(200);
    change("second", "unload");
    is_ready(200);
    change("first", "unload");
    is_ready(503);
    assert_eq!(ask(&server, "through first").status, 503);
    change("first", "load");
    is_ready(200);
    change("misfit", "unload");
    is_ready(503);
}

#[test]
fn guests_are_replaced_by_what_their_files_are_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, http] = ["model.wasm", "http.wasm"].map(|name| folder.path().join(name));
    // In one step, so that nobody reads half a file.
    let put = |path: &PathBuf, guest: &str| {
        let new = path.with_extension("new");
        std::fs::copy(component(guest), &new).expect("copied");
        std::fs::rename(new, path).expect("renamed");
    };
    put(&model, "misfit");
    put(&http, "faults");
    let file = folder.path().join("infer.toml");
    let text = format!(
        "[server]\nallow-model-control = true\n[model.efficientnet-lite0]\nref = \"efficientnet-lite0\"\n\
         [guest.model]\nwasm = {model:?}\n[guest.http]\nwasm = {http:?}\nroute = \"/\"\n"
    );
    std::fs::write(&file, text).expect("written");
    let server = Server::start(&["--config", file.to_str().expect("UTF-8")]);
    let first_input = || {
        let metadata = server.get("/v2/models/model");
        let metadata: Value = serde_json::from_slice(&metadata.body).expect("JSON");
        metadata["inputs"][0]["name"].clone()
    };
    let load = || server.post("/v2/repository/models/model/load", b"{}");
    assert_eq!(first_input(), "do");
    // What is no such guest leaves the one that is there.
    put(&model, "hello");
    let answer = load();
    assert_eq!(answer.status, 500, "{}", answer.text());
    let expected = "is a command now: expected one that is a model, as before";
    assert!(answer.text().contains(expected), "{}", answer.text());
    assert_eq!(first_input(), "do");
    put(&model, "classify-model");
    assert_eq!(load().status, 200);
    assert_eq!(first_input(), "image");
    let answer = infer_image(&server, "model", &photo("coffee.png"));
    assert_eq!(output(&answer, "labels")[0], "espresso");
    assert_eq!(server.get("/count").text(), "1");
    put(&http, "classify-http");
    assert_eq!(server.get("/count").text(), "1", "until it is told to");
    server.signal(rustix::process::Signal::HUP);
    wait_for("the other guest", || server.get("/count").status == 405);
    assert_eq!(server.post("/", &photo("coffee.png")).status, 200);
    std::fs::write(http.with_extension("new"), "no guest").expect("written");
    std::fs::rename(http.with_extension("new"), &http).expect("renamed");
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_log("guest `http` stays as it was");
    assert_eq!(server.post("/", &photo("coffee.png")).status, 200);
}

#[test]
fn what_is_not_granted_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |guest: &str, wasm: &str, granted: &str| -> PathBuf {
        let path = folder.path().join(format!("{guest}.toml"));
        let identity = test_model("identity-f32");
        let text = format!(
            "[model.first]\nref = {identity:?}\n[model.second]\nref = {identity:?}\n\
             [guest.{guest}]\nwasm = {wasm:?}\nmodels = [{granted:?}]\n"
        );
        std::fs::write(&path, text).expect("written");
        path
    };
    let misfit = config("misfit", &component("misfit"), "first");
    let server = Server::start(&["--config", misfit.to_str().expect("UTF-8")]);
    assert_eq!(ask(&server, "through first").status, 200);
    let answer = ask(&server, "through second");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("`second` was not granted"),
        "{}",
        answer.text()
    );
    // A guest that cannot do without is not served.
    let page = config("page", &component("read-page"), "first");
    let log = Server::try_start(&["--config", page.to_str().expect("UTF-8")]);
    let log = log.err().expect("it does not start");
    assert!(log.contains("cannot load the model `page`"), "{log}");
    assert!(log.contains("no model is named `pp-ocrv4-rec`"), "{log}");
}

/// Has the misfit do something, with two numbers.
fn ask(server: &Server, what: &str) -> Answer {
    let inputs = json!([
        { "name": "do", "datatype": "BYTES", "shape": [1], "data": [what] },
        { "name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, -2.5] },
    ]);
    infer(server, "misfit", &inputs)
}

#[test]
fn a_guest_that_does_wrong_costs_one_request() {
    let guest = component("misfit");
    let server = Server::start(&[&guest, "--timeout", "1s", "--max-memory", "32MiB"]);
    let cases = [
        ("refuse", 400, "the inputs are not to its liking"),
        ("trap", 500, "the guest `misfit` failed"),
        ("hog", 500, "the guest `misfit` failed"),
        ("loop", 504, "stopped at its timeout of 1s"),
        (
            "another-type",
            500,
            "the guest `misfit`: its outputs are not as it described them",
        ),
    ];
    for (what, status, text) in cases {
        let answer = ask(&server, what);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.text().contains(text), "{what}: {}", answer.text());
        assert_eq!(output(&ask(&server, "pass"), "y"), json!([1.0, -2.5]));
    }
    server.wait_for_log("output `y`: expected f32 [?], got u8 [2]");
}

/// What `batch.onnx` makes of these rows of four.
fn times_weights(rows: &[f32]) -> Vec<f32> {
    let row = |x: &[f32]| {
        [
            x[0] + 3.0 * x[1] + 5.0 * x[2] + 7.0 * x[3],
            2.0 * x[0] + 4.0 * x[1] + 6.0 * x[2] + 8.0 * x[3],
        ]
    };
    rows.chunks(4).flat_map(row).collect()
}

#[test]
fn calls_of_guests_and_clients_become_batches() {
    const CALLERS: u16 = 8;
    const CALLS: u16 = 50;
    let (guest, model) = (component("faults"), test_model("batch"));
    let model = model.to_string_lossy();
    let batching = ["--max-batch", "6", "--max-delay", "5ms"];
    let args = [&guest, "--model", &*model, "--backend", "tract"];
    let server = Server::start(&[&args[..], &batching].concat());
    let (server, model) = (&server, "batch");
    // Small whole numbers, whose products and sums are exact. Some have several rows.
    let call = |caller: u16, number: u16| {
        let rows = 1 + caller % 3;
        let first = caller * 100 + number;
        let inputs: Vec<f32> = (0..rows * 4)
            .map(|place| f32::from(first + place))
            .collect();
        let expected = times_weights(&inputs);
        let got: Vec<f32> = match caller % 2 {
            0 => {
                let bytes: Vec<u8> = inputs
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                let answer = server.post(&format!("/compute/{model}/x/{rows}x4"), &bytes);
                assert_eq!(answer.status, 200, "{}", answer.text());
                let number = |word: &str| word.parse().expect("a number");
                answer.text().split_whitespace().map(number).collect()
            }
            _ => {
                let inputs = json!([
                    { "name": "x", "datatype": "FP32", "shape": [rows, 4], "data": inputs }
                ]);
                let output = output(&infer(server, model, &inputs), "y");
                serde_json::from_value(output).expect("numbers")
            }
        };
        assert_eq!(got, expected, "call {number} of caller {caller}");
    };
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || (0..CALLS).for_each(|number| call(caller, number)));
        }
    });
    let metrics = metrics(server);
    let label = |line: &&str| {
        line.starts_with("infer_model_batch_size_bucket") && line.contains("le=\"1\"")
    };
    let alone = metrics.lines().find(label).expect("a class of one call");
    let alone: f64 = alone
        .rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number");
    let (runs, calls) = (
        value(&metrics, "infer_model_batch_size_count"),
        value(&metrics, "infer_model_batch_size_sum"),
    );
    assert_eq!(calls, f64::from(CALLERS * CALLS));
    assert!(
        runs < calls && alone < runs,
        "{alone} of {runs} runs had one of {calls} calls"
    );
}

#[test]
fn a_guest_with_many_calls_does_not_keep_another_waiting() {
    if !onnxruntime_is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    let (slow, guest) = (test_model("slow"), component("faults"));
    // Both guests are asked for the same work; the longer route is the other's.
    let text = format!(
        "[model.slow]\nref = {:?}\nbackend = \"onnxruntime\"\nthreads = 1\nstreams = 1\n\n\
         [guest.greedy]\nwasm = {guest:?}\nroute = \"/\"\n\n\
         [guest.modest]\nwasm = {guest:?}\nroute = \"/compute/slow/x/01\"\n",
        slow.to_string_lossy()
    );
    std::fs::write(&file, text).expect("written");
    let server = Server::start(&["--config", &file.to_string_lossy()]);
    let one = 1f32.to_le_bytes();
    let (many, answered) = (8, AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..many {
            threads.spawn(|| {
                if server.try_send("POST", "/compute/slow/x/1", &one).is_ok() {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_for("most of them wait", || {
            value(&metrics(&server), "nv_inference_pending_request_count") > 5.0
        });
        let answer = server.post("/compute/slow/x/01", &one);
        let before = answered.load(Ordering::SeqCst);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(
            before <= many / 2,
            "{before} of {many} were answered before"
        );
        // The rest need not be waited for.
        server.signal(rustix::process::Signal::KILL);
    });
}

/// A component with an interpreter inside, made as docs/guests.md says.
#[test]
fn a_guest_in_python_is_a_model() {
    if observers::are_skipped("a guest in Python") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let top = folder.path().join("top.wasm");
    // Python writes beside what it reads.
    let source = root().join("guest-examples/other-languages/top.py");
    std::fs::copy(source, folder.path().join("top.py")).expect("copied");
    let made = observers::python_with("clients")
        .args(["-c", "import componentize_py; componentize_py.script()"])
        .args(["-d", "guest-examples/guest/wit"])
        .args(["-w", "infer:nn/model", "componentize"])
        .arg("-p")
        .arg(folder.path())
        .args(["top", "-o"])
        .arg(&top)
        .current_dir(root())
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let (guest, model) = (top.to_string_lossy(), test_model("identity-f32"));
    let server = Server::start(&[&guest, "--model", &model.to_string_lossy()]);
    let values =
        json!([{ "name": "values", "shape": [4], "datatype": "FP32", "data": [1, -3, 5.5, 2] }]);
    for _ in 0..3 {
        let answer = infer(&server, "top", &values);
        assert_eq!(output(&answer, "place"), json!([2]));
        assert_eq!(output(&answer, "value"), json!([5.5]));
    }
    // Of an exception its text is for the log; what the guest says of the inputs would be for the caller.
    let none = json!([{ "name": "values", "shape": [0], "datatype": "FP32", "data": [] }]);
    let answer = infer(&server, "top", &none);
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert_eq!(output(&infer(&server, "top", &values), "place"), json!([2]));
}
