//! `infer serve` and clients of the Open Inference Protocol that nobody of this project wrote: tritonclient by HTTP and
//! gRPC, KServe's own; and requests that are wrong on purpose. The clients' programs are in `tests/clients`.

mod common;

#[path = "common/observers.rs"]
mod observers;
#[path = "common/server.rs"]
mod server;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};

use common::{onnxruntime_is_there, root, test_model};
use serde_json::{Value, json};
use server::{Answer, Server, send, wait_for};

const IDENTITIES: [&str; 14] = [
    "bool", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "f32", "f64", "bf16",
    "string",
];

/// A server of these tiny models, on an engine that has every dtype; none where the person said to skip that engine.
fn serve(models: &[&str], more: &[&str]) -> Option<Server> {
    if !onnxruntime_is_there() {
        return None;
    }
    let mut args = vec!["--backend".to_owned(), "onnxruntime".to_owned()];
    for model in models {
        args.extend([
            "--model".to_owned(),
            test_model(model).to_string_lossy().into_owned(),
        ]);
    }
    let args: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    Some(Server::start(&args))
}

fn all_models() -> Vec<String> {
    let identities = IDENTITIES.iter().map(|dtype| format!("identity-{dtype}"));
    identities
        .chain(["add".to_owned(), "several".to_owned()])
        .collect()
}

fn serve_all(more: &[&str]) -> Option<Server> {
    let models = all_models();
    serve(&models.iter().map(String::as_str).collect::<Vec<_>>(), more)
}

/// Runs a program of `tests/clients` that must pass at least this many checks.
fn passes(server: &Server, program: &str, args: &[&str], at_least: usize) {
    let output = observers::python_with("clients")
        .arg(root().join("runtime/tests/clients").join(program))
        .args(args)
        .output()
        .expect("python3");
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{program} {args:?}:\n{said}{failed}\nthe server:\n{}",
        server.log()
    );
    let passed = said
        .lines()
        .last()
        .and_then(|line| line.strip_suffix(" checks"));
    let passed: usize = passed
        .and_then(|number| number.parse().ok())
        .expect("a number");
    assert!(passed >= at_least, "{program}: {passed} checks");
}

#[test]
fn tritonclient_by_http() {
    if observers::are_skipped("tritonclient by HTTP") {
        return;
    }
    if let Some(server) = serve_all(&[]) {
        passes(&server, "triton_http.py", &["protocol", &server.http], 19);
    }
}

#[test]
fn tritonclient_by_grpc() {
    if observers::are_skipped("tritonclient by gRPC") {
        return;
    }
    if let Some(server) = serve_all(&["--access-log"]) {
        passes(&server, "triton_grpc.py", &["protocol", &server.grpc], 17);
        // What went well and what was invalid, each with its model.
        for status in [0, 3] {
            let (status, model) = (format!(" grpc_status={status} "), " subject=\"add\"");
            wait_for("lines of gRPC calls", || {
                let log = server.log();
                log.lines()
                    .any(|line| line.contains(&status) && line.contains(model))
            });
        }
    }
}

#[test]
fn kserves_own_clients() {
    if observers::are_skipped("KServe's clients") {
        return;
    }
    if let Some(server) = serve_all(&[]) {
        passes(
            &server,
            "kserve_client.py",
            &[&server.http, &server.grpc],
            3,
        );
    }
}

#[test]
fn tritonclient_by_tls() {
    if observers::are_skipped("tritonclient by TLS") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let certificate = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    if let Some(server) = serve_all(&tls) {
        passes(
            &server,
            "triton_http.py",
            &["tls", &server.http, &certificate],
            13,
        );
        passes(
            &server,
            "triton_grpc.py",
            &["tls", &server.grpc, &certificate],
            13,
        );
        let unencrypted = server.try_send("GET", "/v2/health/ready", &[]);
        assert!(unencrypted.is_err(), "{unencrypted:?}");
    }
}

#[test]
fn models_come_and_go_by_who_carries_the_token() {
    if observers::are_skipped("model control") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").expect("writable");
    let control = [
        "--allow-model-control",
        "--admin-token",
        &*token.to_string_lossy(),
    ];
    let Some(server) = serve(&["identity-f32", "add"], &control) else {
        return;
    };
    passes(&server, "triton_http.py", &["control", &server.http], 4);
    passes(&server, "triton_grpc.py", &["control", &server.grpc], 4);
    assert!(!server.log().contains("secret"), "{}", server.log());
}

#[test]
fn bodies_that_are_too_long() {
    if observers::are_skipped("long bodies") {
        return;
    }
    let Some(server) = serve(&["identity-f32"], &["--max-body", "64KiB"]) else {
        return;
    };
    passes(&server, "triton_http.py", &["too-long", &server.http], 1);
    passes(&server, "triton_grpc.py", &["too-long", &server.grpc], 1);
}

fn metrics(server: &Server) -> String {
    let request = ureq::http::Request::get(format!("http://{}/metrics", server.metrics));
    let answer = send(request.body(&[][..]).expect("a request")).expect("an answer");
    answer.text()
}

/// Nothing runs and nothing waits.
fn is_idle(server: &Server) -> bool {
    let text = metrics(server);
    let mut pending = text
        .lines()
        .filter(|line| line.starts_with("nv_inference_pending_request_count{"));
    let line = pending.next().expect("a gauge");
    line.ends_with(" 0")
}

#[test]
fn time_that_is_up() {
    if observers::are_skipped("timeouts") {
        return;
    }
    let Some(server) = serve(&["slow", "identity-f32"], &[]) else {
        return;
    };
    passes(&server, "triton_http.py", &["late", &server.http], 1);
    passes(&server, "triton_grpc.py", &["late", &server.grpc], 2);
    wait_for("the engine has let go", || is_idle(&server));
    well(&server);
}

#[test]
fn a_client_that_goes_away_stops_its_call() {
    let Some(server) = serve(&["slow"], &["--access-log"]) else {
        return;
    };
    let body =
        json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1], "data": [1] }] });
    let body = body.to_string();
    let head = format!(
        "POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // More than run at one time.
    let calls = 1 + std::thread::available_parallelism().map_or(1, usize::from);
    let streams: Vec<TcpStream> = (0..calls)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.http).expect("it listens");
            let request = format!("{head}{body}");
            stream.write_all(request.as_bytes()).expect("it reads");
            stream
        })
        .collect();
    wait_for("some to run and one to wait", || !is_idle(&server));
    drop(streams);
    let gone = || server.log().matches(" status=499 ").count();
    wait_for("all to be gone", || gone() == calls);
    wait_for("the queue to be empty", || is_idle(&server));
    let text = metrics(&server);
    let mut failures = text.lines().filter(|line| {
        line.starts_with("nv_inference_request_failure{") && line.contains("\"CANCELED\"")
    });
    let line = failures.next().expect("a counter");
    assert!(line.ends_with(&format!(" {calls}")), "{line}");
}

#[test]
fn a_request_that_does_not_fit_is_counted_once() {
    let Some(server) = serve(&["pick"], &[]) else {
        return;
    };
    let index = json!({ "name": "index", "datatype": "INT64", "shape": [1], "data": [1_000_000] });
    let body = json!({ "inputs": [index] }).to_string();
    let answer = server.post("/v2/models/pick/infer", body.as_bytes());
    assert_eq!(answer.status, 400, "{}", answer.text());
    let text = metrics(&server);
    let failures = text
        .lines()
        .filter(|line| line.starts_with("nv_inference_request_failure{"));
    for line in failures {
        let expected = if line.contains("\"OTHER\"") {
            " 1"
        } else {
            " 0"
        };
        assert!(line.ends_with(expected), "{line}");
    }
}

#[test]
fn a_division_that_the_processor_refuses_costs_one_request() {
    let Some(server) = serve(&["quotient"], &[]) else {
        return;
    };
    let divide = |a: i32, b: i32| {
        let of = |name: &str, value: i32| json!({ "name": name, "datatype": "INT32", "shape": [1], "data": [value] });
        let body = json!({ "inputs": [of("a", a), of("b", b)] }).to_string();
        server.post("/v2/models/quotient/infer", body.as_bytes())
    };
    for _ in 0..2 {
        let answer = divide(i32::MIN, -1);
        assert_eq!(answer.status, 500, "{}", answer.text());
        let expected = "divided a whole number by 0, or the smallest one by -1";
        assert!(answer.text().contains(expected), "{}", answer.text());
        let answer = divide(-7, 2);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("\"data\":[-3]"), "{}", answer.text());
    }
}

#[test]
fn a_full_queue_refuses_at_once() {
    if observers::are_skipped("a full queue") {
        return;
    }
    let Some(server) = serve(&["slow"], &["--queue", "1", "--threads", "1"]) else {
        return;
    };
    passes(&server, "triton_http.py", &["busy", &server.http], 1);
    passes(&server, "triton_grpc.py", &["busy", &server.grpc], 1);
}

#[test]
fn calls_run_in_the_order_of_their_levels() {
    if observers::are_skipped("priorities") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    let model = test_model("slow");
    let text = format!(
        "[model.slow]\nref = {:?}\nthreads = 1\npriority-levels = 3\n",
        model.to_string_lossy()
    );
    std::fs::write(&file, text).expect("written");
    let Some(server) = serve(&[], &["--config", &file.to_string_lossy()]) else {
        return;
    };
    passes(&server, "triton_http.py", &["priorities", &server.http], 1);
    passes(&server, "triton_grpc.py", &["priorities", &server.grpc], 1);
}

#[test]
fn a_photo_is_what_it_is() {
    if observers::are_skipped("a photo") {
        return;
    }
    let photo = root().join("photos/coffee.png");
    assert!(
        photo.is_file(),
        "`{}` is missing: run scripts/get-photos",
        photo.display()
    );
    let server = Server::start(&["--backend", "tract", "--model", "efficientnet-lite0"]);
    passes(
        &server,
        "triton_http.py",
        &["photo", &server.http, &*photo.to_string_lossy()],
        1,
    );
}

#[test]
fn a_model_that_is_not_loaded_may_be_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (identity, add) = (folder.path().join("identity-f32.onnx"), test_model("add"));
    std::fs::copy(test_model("identity-f32"), &identity).expect("copied");
    let args = [
        "--backend",
        "tract",
        "--model",
        &identity.to_string_lossy(),
        "--model",
        &add.to_string_lossy(),
        "--allow-model-control",
    ];
    let server = Server::start(&args);
    let change = |change: &str| {
        server.post(
            &format!("/v2/repository/models/identity-f32/{change}"),
            b"{}",
        )
    };
    assert_eq!(change("unload").status, 200);
    let answer = server.post(INFER, b"{}");
    refused("a model that is not loaded", &answer, 503, "not loaded");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(server.get("/v2/models/identity-f32/ready").status, 503);
    refused(
        "its metadata",
        &server.get("/v2/models/identity-f32"),
        503,
        "not loaded",
    );
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let index = server.post("/v2/repository/index", br#"{"ready":true}"#);
    let expected = json!([{"name": "add", "version": "1", "state": "READY", "reason": ""}]);
    assert_eq!(
        serde_json::from_slice::<Value>(&index.body).expect("JSON"),
        expected
    );
    std::fs::write(&identity, "no model").expect("written");
    let answer = change("load");
    refused("its file", &answer, 500, "`identity-f32` cannot be loaded");
    let said = |line: &str| line.contains("cannot be loaded") && line.contains("identity-f32");
    wait_for("a line", || server.log().lines().any(said));
    // Who asks for what is not loaded is told so, and the server is as ready as it was.
    assert_eq!(server.get("/v2/models/identity-f32/ready").status, 503);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    std::fs::copy(test_model("identity-f32"), &identity).expect("copied");
    assert_eq!(change("load").status, 200);
    well(&server);
}

/// A server for requests that are wrong.
fn serve_few() -> Server {
    let models =
        ["identity-f32", "add"].map(|name| test_model(name).to_string_lossy().into_owned());
    let [identity, add] = &models;
    Server::start(&[
        "--backend",
        "tract",
        "--model",
        identity,
        "--model",
        add,
        "--max-body",
        "8MiB",
    ])
}

const INFER: &str = "/v2/models/identity-f32/infer";

/// A request that is right, and its answer.
fn well(server: &Server) {
    let request = json!({
        "id": "7",
        "inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1.5, -2, 0.25]}],
    });
    let answer = server.post(INFER, request.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = json!({
        "model_name": "identity-f32",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "y", "shape": [3], "datatype": "FP32", "data": [1.5, -2.0, 0.25]}],
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&answer.body).expect("JSON"),
        expected
    );
}

/// Checks that a request was refused with these words, as the protocol has it.
fn refused(what: &str, answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    let said: Value =
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{what}: JSON"));
    let error = said["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{what}: {said}"));
    assert!(
        error.contains(text),
        "{what}: expected `{text}` in `{error}`"
    );
    assert!(error.len() < 4096, "{what}: {} bytes of error", error.len());
    assert_eq!(answer.headers["content-type"], "application/json", "{what}");
}

fn with_input(shape: &str, rest: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32",{rest}}}]}}"#)
}

#[test]
fn wrong_json_is_told_what_is_wrong() {
    let server = serve_few();
    let deep = |depth: usize| {
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        with_input("[1]", &format!(r#""data":{nested}"#))
    };
    let mut many = r#"{"inputs":["#.to_owned();
    for number in 0..100_000 {
        write!(
            many,
            r#"{{"name":"i{number}","shape":[0],"datatype":"FP32","data":[]}},"#
        )
        .expect("written");
    }
    many.push_str(r#"{"name":"x","shape":[0],"datatype":"FP32","data":[]}]}"#);
    let long = "n".repeat(100_000);
    let cases: &[(&str, String, &str)] = &[
        ("nothing", String::new(), "JSON"),
        ("no JSON", "{".to_owned(), "JSON"),
        ("a list", "[]".to_owned(), "JSON"),
        ("a text", "\"x\"".to_owned(), "expected an object with `inputs`"),
        ("an input that is none", r#"{"inputs":[7]}"#.to_owned(), "expected an input: an object"),
        ("null", "null".to_owned(), "JSON"),
        ("more behind it", format!("{} x", with_input("[1]", r#""data":[1]"#)), "JSON"),
        ("bytes that are no text", "\u{0}".to_owned(), "JSON"),
        ("no inputs", "{}".to_owned(), "missing input `x`"),
        ("empty inputs", r#"{"inputs":[]}"#.to_owned(), "missing input `x`"),
        ("neither", with_input("[1]", r#""parameters":{}"#), "neither"),
        ("both", with_input("[1]", r#""data":[1],"parameters":{"binary_data_size":4}"#), "both"),
        ("data that is null", with_input("[1]", r#""data":null"#), "`x`"),
        ("a negative size", with_input("[-1]", r#""data":[1]"#), "-1"),
        ("a size that is no whole number", with_input("[1.5]", r#""data":[1]"#), "JSON"),
        ("a huge size", with_input("[18446744073709551616]", r#""data":[1]"#), "JSON"),
        ("a large size", with_input("[4611686018427387904]", r#""data":[1]"#), "`x`"),
        ("sizes that overflow", with_input("[4294967296,4294967296,4294967296]", r#""data":[]"#), "overflow"),
        ("sizes that overflow before 0", with_input("[4294967296,4294967296,4294967296,0]", r#""data":[]"#), "overflow"),
        ("many dimensions", with_input(&format!("{:?}", vec![1; 100_000]), r#""data":[1]"#), "dimensions"),
        ("too few", with_input("[2]", r#""data":[1]"#), "expected 2 elements, got 1"),
        ("too many", with_input("[1]", r#""data":[1,2]"#), "more elements"),
        ("a text", with_input("[1]", r#""data":["1"]"#), "FP32"),
        ("a number alone", with_input("[1]", r#""data":1"#), "list"),
        ("another nesting", with_input("[4]", r#""data":[[1,2],[3,4]]"#), "nested"),
        ("uneven rows", with_input("[2,2]", r#""data":[[1],[2,3,4]]"#), "nested"),
        ("a number that no float holds", with_input("[1]", r#""data":[1e39]"#), "FP32"),
        ("lists 100 deep", deep(100), "nested"),
        ("lists 1,000,000 deep", deep(1_000_000), "nested"),
        ("a datatype that there is not", r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FLOAT","data":[1]}]}"#.to_owned(), "FP32"),
        ("another datatype", r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[1]}]}"#.to_owned(), "f32"),
        ("a name twice", format!(r#"{{"inputs":[{0},{0}]}}"#, r#"{"name":"x","shape":[1],"datatype":"FP32","data":[1]}"#), "twice"),
        ("a long name", format!(r#"{{"inputs":[{{"name":"{long}","shape":[1],"datatype":"FP32","data":[1]}}]}}"#), "unknown input"),
        ("a long datatype", format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"{long}","data":[1]}}]}}"#), "FP32"),
        ("100,001 inputs", many, "input"),
        ("a timeout that is none", r#"{"parameters":{"timeout":"soon"},"inputs":[]}"#.to_owned(), "JSON"),
        ("an unknown output", r#"{"outputs":[{"name":"z"}],"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[]}]}"#.to_owned(), "unknown output `z`"),
        ("an output twice", r#"{"outputs":[{"name":"y"},{"name":"y"}],"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[]}]}"#.to_owned(), "output `y` is asked for twice"),
        ("classes", r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[{"name":"y","parameters":{"classification":1}}]}"#.to_owned(), "does not make classes"),
        ("shared memory", with_input("[1]", r#""parameters":{"shared_memory_region":"r","shared_memory_byte_size":4}"#), "shared memory"),
    ];
    for (what, body, text) in cases {
        let status = if ["classes", "shared memory"].contains(what) {
            501
        } else {
            400
        };
        refused(what, &server.post(INFER, body.as_bytes()), status, text);
    }
    let answer = server.post("/v2/models/nothing/infer", &[]);
    refused("an unknown model", &answer, 404, "`nothing`");
    let answer = server.post("/v2/models/identity-f32/versions/2/infer", &[]);
    refused("an unknown version", &answer, 404, "version");
    let answer = server.post(&format!("/v2/models/{}/infer", "n".repeat(8000)), &[]);
    refused("a long name", &answer, 404, "no model");
    let answer = server.get("/v2/models/%ff/ready");
    refused("a name that is no text", &answer, 400, "UTF-8");
    let answer = server.get("/v2/something/else");
    refused("an unknown path", &answer, 404, "/v2/something/else");
    let answer = server.get(INFER);
    assert_eq!(answer.status, 405, "{}", answer.text());
    refused("another method", &answer, 405, "POST");
    let answer = server.post("/v2/repository/index", b"{");
    refused("an index of nothing", &answer, 400, "ready");
    well(&server);
}

/// A request with headers and a body.
fn post(server: &Server, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = ureq::http::Request::post(format!("http://{}{INFER}", server.http));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(body).expect("a request")).expect("an answer")
}

#[test]
fn wrong_binary_data_is_told_what_is_wrong() {
    const LENGTH: &str = "inference-header-content-length";
    let server = serve_few();
    let head = |size: &str| {
        with_input(
            "[2]",
            &format!(r#""parameters":{{"binary_data_size":{size}}}"#),
        )
    };
    let body = |size: &str, bytes: usize| [head(size).as_bytes(), &vec![0; bytes]].concat();
    let length = head("8").len();
    let right = length.to_string();
    let cases: &[(&str, &str, Vec<u8>, &str)] = &[
        (
            "too short",
            &right,
            body("8", 7),
            "expected 8 bytes of binary data, got 7",
        ),
        ("too long", &right, body("8", 9), "1 bytes stand behind"),
        (
            "none",
            &right,
            body("8", 0),
            "expected 8 bytes of binary data, got 0",
        ),
        ("not of the shape", &right, body("4", 4), "`x`"),
        (
            "a negative size",
            &(length + 1).to_string(),
            body("-8", 8),
            "JSON",
        ),
        (
            "a huge size",
            &(length + 18).to_string(),
            body("9223372036854775807", 8),
            "expected 9223372036854775807",
        ),
        (
            "a length beyond the body",
            "1000",
            body("8", 8),
            "expected 1000 bytes of JSON",
        ),
        ("a length inside the JSON", "10", body("8", 8), "JSON"),
        ("a length of 0", "0", body("8", 8), "JSON"),
        (
            "a huge length",
            "18446744073709551615",
            body("8", 8),
            "bytes of JSON",
        ),
        (
            "a length that is none",
            "-1",
            body("8", 8),
            "number of bytes",
        ),
        (
            "another that is none",
            "99999999999999999999999999",
            body("8", 8),
            "number of bytes",
        ),
        ("a word", "all", body("8", 8), "number of bytes"),
    ];
    for (what, length, body, text) in cases {
        refused(what, &post(&server, &[(LENGTH, length)], body), 400, text);
    }
    let answer = post(&server, &[(LENGTH, &right)], &body("8", 8));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = post(&server, &[("content-encoding", "gzip")], b"x");
    refused("a compressed body", &answer, 415, "gzip");
    well(&server);
}

#[test]
fn bodies_that_do_not_come_whole() {
    let identity = test_model("identity-f32").to_string_lossy().into_owned();
    let server = Server::start(&[
        "--backend",
        "tract",
        "--model",
        &identity,
        "--request-timeout",
        "1s",
    ]);
    let head = |length: &str| format!("POST {INFER} HTTP/1.1\r\nhost: a\r\n{length}\r\n\r\n");
    let begin = |length: &str, body: &str| {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        stream.write_all(head(length).as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).expect("sent");
        stream
    };
    let read = |mut stream: TcpStream| {
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    // One that is slow has its time, and no more.
    let answer = read(begin("content-length: 1000", "{"));
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    // One that goes away costs nothing.
    for length in ["content-length: 1000", "transfer-encoding: chunked"] {
        let stream = begin(length, "");
        stream.shutdown(Shutdown::Both).expect("open");
    }
    // One that says more than there may be is refused before it is read.
    let answer = read(begin("content-length: 99999999999", ""));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    well(&server);
}

#[test]
fn answers_are_as_the_protocol_describes() {
    if observers::are_skipped("the protocol's description") {
        return;
    }
    let models = all_models();
    // The description does not know bf16, which Triton has added.
    let known = models.iter().filter(|name| *name != "identity-bf16");
    let models: Vec<&str> = known.map(String::as_str).collect();
    let Some(server) = serve(&models, &["--allow-model-control"]) else {
        return;
    };
    let mut exchanges = Vec::new();
    let mut ask = |method: &str, path: &str, model: &str, body: &Value| {
        let filled = path
            .replace("{model_name}", model)
            .replace("{model_version}", "1");
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let answer = server.send(method, &filled, body.as_bytes());
        exchanges.push(json!({
            "method": method, "path": path, "status": answer.status, "body": answer.text(),
        }));
    };
    let (none, model) = (Value::Null, "/v2/models/{model_name}");
    for path in ["/v2", "/v2/health/live", "/v2/health/ready"] {
        ask("GET", path, "", &none);
    }
    for version in ["", "/versions/{model_version}"] {
        for name in &models {
            ask("GET", &format!("{model}{version}"), name, &none);
            ask("GET", &format!("{model}{version}/ready"), name, &none);
        }
        ask("GET", &format!("{model}{version}"), "nobody", &none);
        let infer = format!("{model}{version}/infer");
        for dtype in IDENTITIES {
            let (datatype, data) = match dtype {
                "bool" => ("BOOL".to_owned(), json!([true, false])),
                "string" => ("BYTES".to_owned(), json!(["one", ""])),
                // JSON has no numbers of 16 bits.
                "f16" | "bf16" => continue,
                _ => {
                    let (kind, bits) = dtype.split_at(1);
                    let kind = match kind {
                        "u" => "UINT",
                        "i" => "INT",
                        _ => "FP",
                    };
                    (format!("{kind}{bits}"), json!([1, 0]))
                }
            };
            let input = json!({ "name": "x", "shape": [2], "datatype": datatype, "data": data });
            let body = json!({ "id": "42", "inputs": [input] });
            ask("POST", &infer, &format!("identity-{dtype}"), &body);
        }
        ask("POST", &infer, "identity-f32", &json!({ "inputs": 1 }));
        ask("POST", &infer, "nobody", &json!({ "inputs": [] }));
    }
    ask("POST", "/v2/repository/index", "", &json!({}));
    for change in ["unload", "load"] {
        let path = format!("/v2/repository/models/{{model_name}}/{change}");
        ask("POST", &path, "add", &none);
        ask("POST", "/v2/repository/index", "", &json!({}));
    }
    // One that is not, so that it is seen to be looked at.
    exchanges.push(json!({
        "method": "POST", "path": "/v2/models/{model_name}/infer", "status": 200, "body": "{\"outputs\": []}",
    }));
    let faults = observers::read_by("openapi.py", &json!(exchanges).to_string());
    let faults = faults.as_array().expect("one for each");
    assert_eq!(faults.len(), exchanges.len());
    let (last, faults) = faults.split_last().expect("some");
    assert!(
        last.as_str()
            .is_some_and(|fault| fault.contains("model_name")),
        "{last}"
    );
    for (exchange, fault) in exchanges.iter().zip(faults) {
        assert!(fault.is_null(), "{fault}: {exchange}");
    }
}
