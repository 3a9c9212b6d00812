//! What operators see of a server: metrics, the log, traces; and that its manual and its manifest say what it does.

mod common;

#[path = "common/observers.rs"]
mod observers;
#[path = "common/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{Abi, guest_path, root, test_model};
use rustix::process::Signal;
use serde_json::Value;
use server::{Answer, Server, send, wait_for};

const INPUT: [f32; 6] = [1.5, -2.0, 0.25, 8.0, 1e9, -0.5];

/// A server of the guest `faults` and one tiny model.
fn serve(more: &[&str]) -> Server {
    let guest = guest_path("faults", Abi::Component);
    let (guest, model) = (guest.to_string_lossy(), test_model("identity-f32"));
    let args = [
        &*guest,
        "--model",
        &*model.to_string_lossy(),
        "--backend",
        "tract",
    ];
    Server::start(&[&args[..], more].concat())
}

fn compute(server: &Server) {
    let input: Vec<u8> = INPUT.iter().flat_map(|value| value.to_le_bytes()).collect();
    let answer = server.post("/compute/identity-f32/x/6", &input);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A request with headers to an address.
fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = ureq::http::Request::get(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(&[][..]).expect("a request")).expect("an answer")
}

fn id(answer: &Answer) -> String {
    let id = answer.headers.get("x-request-id").expect("each has an id");
    id.to_str().expect("ASCII").to_owned()
}

/// What `/metrics` has, as Prometheus reads it.
struct Metrics(Vec<(String, Value, f64)>);

impl Metrics {
    fn of(server: &Server) -> Metrics {
        let answer = get(&server.metrics, "/metrics", &[]);
        let kind = answer.headers["content-type"].to_str().expect("ASCII");
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let samples = observers::read_by("metrics.py", &answer.text());
        Metrics(serde_json::from_value(samples).expect("samples"))
    }

    /// The only sample of this name that has all these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |found: &Value| labels.iter().all(|(name, value)| found[*name] == *value);
        let mut found = self.0.iter().filter(|(n, l, _)| n == name && has(l));
        let (_, _, value) = found.next().unwrap_or_else(|| panic!("{name} {labels:?}"));
        assert!(found.next().is_none(), "more than one {name} {labels:?}");
        *value
    }
}

#[test]
fn metrics_say_what_happened() {
    if observers::are_skipped("metrics") {
        return;
    }
    let server = serve(&[
        "-v",
        "--timeout",
        "1s",
        "--max-memory",
        "32MiB",
        "--max-body",
        "1KiB",
    ]);
    for _ in 0..5 {
        compute(&server);
    }
    let expected = [
        ("/trap", 500, "trapped", None),
        ("/loop", 504, "timeout", Some("timeout")),
        ("/hog", 500, "trapped", Some("memory")),
    ];
    for (path, status, _, _) in expected {
        assert_eq!(server.get(path).status, status, "{path}: {}", server.log());
    }
    assert_eq!(server.post("/length", &[0; 2000]).status, 413);
    let model = [("model", "identity-f32"), ("version", "1")];
    let check = || {
        let metrics = Metrics::of(&server);
        let placed = [&model[..], &[("backend", "tract"), ("device", "cpu")]].concat();
        let of_model = |name: &str| metrics.value(name, &placed);
        assert_eq!(of_model("nv_inference_request_success"), 5.0);
        assert_eq!(of_model("nv_inference_count"), 5.0);
        assert_eq!(of_model("nv_inference_exec_count"), 5.0);
        assert_eq!(of_model("nv_inference_pending_request_count"), 0.0);
        let compute = of_model("nv_inference_compute_infer_duration_us");
        let whole = of_model("nv_inference_request_duration_us");
        assert!(compute > 0.0 && compute <= whole, "{compute} of {whole}");
        assert_eq!(of_model("infer_model_batch_size_count"), 5.0);
        assert_eq!(of_model("infer_model_batch_size_sum"), 5.0);
        assert_eq!(of_model("infer_model_call_duration_seconds_count"), 5.0);
        for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
            let labels = [&model[..], &[("reason", reason)]].concat();
            assert_eq!(metrics.value("nv_inference_request_failure", &labels), 0.0);
        }
        let info = [&placed[..], &[("precision", "f32")]].concat();
        assert_eq!(metrics.value("infer_model_info", &info), 1.0);
        let guest = |name: &str| metrics.value(name, &[("guest", "faults")]);
        let ended = |outcome| {
            let labels = [("guest", "faults"), ("outcome", outcome)];
            metrics.value("infer_guest_requests_total", &labels)
        };
        let outcomes = [
            "ok",
            "invalid",
            "refused",
            "timeout",
            "cancelled",
            "trapped",
            "failed",
        ];
        assert_eq!(outcomes.map(ended), [5.0, 1.0, 0.0, 1.0, 0.0, 2.0, 0.0]);
        let hits = |limit| {
            let labels = [("guest", "faults"), ("limit", limit)];
            metrics.value("infer_guest_limit_hits_total", &labels)
        };
        let limits = [
            "memory",
            "tensor_bytes",
            "handles",
            "fuel",
            "timeout",
            "queue",
            "body",
        ];
        assert_eq!(limits.map(hits), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(guest("infer_guest_instances_running"), 0.0);
        assert_eq!(guest("infer_guest_instances_total"), 8.0);
        assert_eq!(guest("infer_guest_request_duration_seconds_count"), 9.0);
        let (all, model, sandbox) = (
            guest("infer_guest_instance_seconds_total"),
            guest("infer_guest_model_seconds_total"),
            guest("infer_guest_sandbox_seconds_total"),
        );
        assert!(model > 0.0 && (all - model - sandbox).abs() < 1e-6);
        assert!(all >= 1.0, "one ran for a second: {all}");
        assert_eq!(metrics.value("infer_ready", &[]), 1.0);
        assert_eq!(metrics.value("infer_abandoned_threads", &[]), 0.0);
        let http = [("listener", "HTTP"), ("status", "5xx")];
        assert_eq!(metrics.value("infer_http_requests_total", &http), 3.0);
        let metrics_open = metrics.value("infer_connections_open", &[("listener", "metrics")]);
        assert_eq!(metrics_open, 1.0, "the one that asks");
        assert!(metrics.value("process_resident_memory_bytes", &[]) > 1e6);
    };
    check();
    // A model that is loaded anew goes on with its counters.
    server.signal(Signal::HUP);
    server.wait_for_log("loaded anew");
    check();
}

/// A body whose length is said beforehand has no end that is asked for, and a response to `HEAD` has none at all.
#[test]
fn every_way_to_end_well_counts_as_such() {
    if observers::are_skipped("endings") {
        return;
    }
    let server = serve(&[]);
    assert_eq!(server.send("HEAD", "/count", &[]).status, 200);
    assert_eq!(server.get("/count").text(), "1");
    assert_eq!(server.post("/echo", &[7; 100_000]).body.len(), 100_000);
    let ended = |outcome| {
        let labels = [("guest", "faults"), ("outcome", outcome)];
        Metrics::of(&server).value("infer_guest_requests_total", &labels)
    };
    wait_for("all to end", || ended("ok") == 3.0);
    assert_eq!(ended("cancelled"), 0.0);
    let guest = guest_path("classify-http", Abi::Component);
    let model = test_model("identity-f32");
    let (guest, model) = (guest.to_string_lossy(), model.to_string_lossy());
    let server = Server::start(&[&guest, "--model", &model, "--backend", "tract"]);
    let answer = server.get("/");
    assert_eq!(answer.status, 405);
    assert!(answer.headers.contains_key("content-length"));
    let ended = |outcome| {
        let labels = [("guest", "classify-http"), ("outcome", outcome)];
        Metrics::of(&server).value("infer_guest_requests_total", &labels)
    };
    wait_for("it to end", || ended("ok") + ended("cancelled") == 1.0);
    assert_eq!(ended("ok"), 1.0);
}

#[test]
fn queues_are_seen_from_outside() {
    if observers::are_skipped("queues") {
        return;
    }
    let server = serve(&[
        "--max-instances",
        "1",
        "--max-waiting",
        "1",
        "--timeout",
        "60s",
    ]);
    let address = server.http.clone();
    let hold = move || {
        let address = address.clone();
        // It is cut when the server ends.
        std::thread::spawn(move || {
            std::net::TcpStream::connect(address).map(|mut stream| {
                use std::io::{Read, Write};
                let _ = stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
                let _ = stream.read_to_end(&mut Vec::new());
            })
        })
    };
    let guest = |name| Metrics::of(&server).value(name, &[("guest", "faults")]);
    hold();
    wait_for("it runs", || guest("infer_guest_instances_running") == 1.0);
    hold();
    wait_for("it waits", || guest("infer_guest_waiting") == 1.0);
    let answer = server.get("/count");
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    let metrics = Metrics::of(&server);
    let refused = [("guest", "faults"), ("outcome", "refused")];
    assert_eq!(metrics.value("infer_guest_requests_total", &refused), 1.0);
    let queue = [("guest", "faults"), ("limit", "queue")];
    assert_eq!(metrics.value("infer_guest_limit_hits_total", &queue), 1.0);
    assert_eq!(metrics.value("infer_guest_instances_max", &[]), 1.0);
    assert_eq!(metrics.value("infer_guest_waiting_max", &[]), 1.0);
}

/// The lines of a log in JSON that have this.
fn lines(log: &str, key: &str, value: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|line| line[key] == value).collect()
}

#[test]
fn each_request_has_an_id_and_a_line() {
    let server = serve(&["--access-log", "--log-format", "json", "-v"]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let answer = get(
        &server.http,
        "/env/NONE?secret=1",
        &[
            ("x-request-id", "from-the-client"),
            ("traceparent", &parent),
        ],
    );
    assert_eq!(id(&answer), "from-the-client");
    let others = [
        get(&server.http, "/say/x", &[]),
        get(&server.http, "/trap", &[("x-request-id", "not sane")]),
        get(&server.http, "/v2/nothing", &[]),
    ];
    let ids: BTreeSet<String> = others.iter().map(id).collect();
    assert_eq!(ids.len(), 3, "each has its own");
    let [said, trapped, _] = &others;
    assert_ne!(id(trapped), "not sane");
    let accessed = |id: &str| {
        let log = server.log();
        let of_it = lines(&log, "request_id", id);
        of_it
            .into_iter()
            .find(|line| line["target"] == "infer::access")
    };
    for id in &ids {
        wait_for("its line", || accessed(id).is_some());
    }
    let line = accessed("from-the-client").expect("a line");
    let got = [
        "method",
        "path",
        "status",
        "subject",
        "trace_id",
        "bytes_out",
        "bytes_in",
    ];
    assert_eq!(
        got.map(|name| line[name].clone()),
        [
            Value::from("GET"),
            "/env/NONE".into(),
            200.into(),
            "faults".into(),
            trace.into(),
            0.into(),
            0.into()
        ],
        "and no query, which may hold secrets"
    );
    assert!(
        line["client"]
            .as_str()
            .is_some_and(|client| client.starts_with("127.0.0.1:"))
    );
    assert!(line["duration_us"].is_u64() && line["timestamp"].is_string());
    let log = server.log();
    let texts = |id: &str| -> Vec<String> {
        let lines = lines(&log, "request_id", id).into_iter();
        lines
            .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert!(
        texts(&id(trapped))
            .iter()
            .any(|text| text.contains("trapped")),
        "{log}"
    );
    assert!(
        texts(&id(said))
            .iter()
            .any(|text| text.contains("standard output: x")),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");
    let status: Value =
        serde_json::from_slice(&get(&server.metrics, "/status.json", &[]).body).expect("JSON");
    let error = &status["errors"][0];
    assert_eq!(
        (error["subject"].as_str(), error["request"].as_str()),
        (Some("faults"), Some(&*id(trapped)))
    );
}

#[test]
fn the_log_has_no_requests_unless_wanted() {
    let server = serve(&[]);
    compute(&server);
    assert!(!server.log().contains("/compute"), "{}", server.log());
}

#[test]
fn traces_reach_a_collector() {
    if observers::are_skipped("traces") {
        return;
    }
    let mut collector = observers::python()
        .arg(observers::program("collector.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut lines = BufReader::new(collector.stdout.take().expect("a pipe")).lines();
    let port = lines.next().expect("a line").expect("readable");
    let mut server = serve(&["--otlp", &format!("http://127.0.0.1:{port}")]);
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let sampled = format!("00-{trace}-{parent}-01");
    let input: Vec<u8> = INPUT.iter().flat_map(|value| value.to_le_bytes()).collect();
    let request =
        ureq::http::Request::post(format!("http://{}/compute/identity-f32/x/6", server.http))
            .header("traceparent", &sampled)
            .body(&input[..])
            .expect("a request");
    assert_eq!(send(request).expect("an answer").status, 200);
    assert_eq!(server.get("/trap").status, 500);
    let unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    get(&server.http, "/count", &[("traceparent", unsampled)]);
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    // What was not sent when the server ended is lost.
    drop(collector.stdin.take());
    let spans: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line.expect("readable")).expect("JSON"))
        .collect();
    collector.wait().expect("it ends");
    let named =
        |name: &str| -> Vec<&Value> { spans.iter().filter(|span| span["name"] == name).collect() };
    let of_it = |name: &str| -> &Value {
        let mut found = named(name)
            .into_iter()
            .filter(|span| span["trace"] == trace);
        found
            .next()
            .unwrap_or_else(|| panic!("`{name}` in {spans:#?}"))
    };
    let (request, queue) = (of_it("request"), of_it("queue"));
    let (instance, compute) = (of_it("instance"), of_it("compute"));
    assert_eq!(request["parent"], parent);
    assert_eq!(request["kind"], 2, "a server's");
    assert_eq!(request["resource"]["service.name"], "infer");
    assert_eq!(request["attributes"]["http.response.status_code"], 200);
    assert_eq!(queue["parent"], request["id"]);
    assert_eq!(instance["parent"], request["id"]);
    assert_eq!(instance["attributes"]["guest"], "faults");
    assert_eq!(compute["parent"], instance["id"]);
    assert_eq!(compute["attributes"]["engine"], "tract");
    assert_eq!(compute["attributes"]["model"], "identity-f32");
    let long = |span: &Value| span["nanoseconds"].as_u64().expect("a number");
    assert!(long(compute) > 0 && long(compute) <= long(instance));
    assert_eq!(named("load").len(), 1);
    assert_eq!(named("load")[0]["attributes"]["model"], "identity-f32");
    // The trapped one begins a trace of its own; the one that its client does not sample is not there.
    assert_eq!(named("request").len(), 2, "{spans:#?}");
    let trapped = named("request")
        .into_iter()
        .find(|span| span["trace"] != trace);
    let trapped = trapped.expect("another trace");
    assert_eq!(
        (&trapped["parent"], &trapped["status"]),
        (&Value::from(""), &Value::from(2))
    );
}

#[test]
fn a_collector_that_is_not_there_costs_nothing_else() {
    let mut server = serve(&["--otlp", "http://127.0.0.1:9"]);
    compute(&server);
    server.wait_for_log("the collector takes no traces");
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    let Err(log) = Server::try_start(&["--otlp", "somewhere", "--model", "x"]) else {
        panic!("`somewhere` is no address");
    };
    assert!(log.contains("expected a collector's address"), "{log}");
}

/// The names of options in a text: `--access-log`.
fn options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c: char| !is_part(c));
    let long = words
        .filter(|word| word.starts_with("--") && word.len() > 3 && !word[2..].starts_with('-'));
    long.map(|word| word.trim_end_matches('-').to_owned())
        .collect()
}

fn infer(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_infer"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
}

fn manual() -> String {
    std::fs::read_to_string(root().join("docs/serving.md")).expect("a manual")
}

fn manifest() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("deploy/kubernetes.yaml")).expect("a manifest");
    serde_json::from_value(observers::read_by("manifest.py", &text)).expect("documents")
}

#[test]
fn every_option_of_the_manual_exists() {
    let help = options(&infer(&["serve", "--help"]));
    let named = options(&manual());
    let unknown: Vec<&String> = named.difference(&help).collect();
    assert!(named.len() > 30 && unknown.is_empty(), "{unknown:?}");
}

/// The keys of a table of the file: those that the program says it expected.
fn keys(table: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    std::fs::write(&file, format!("[{table}]\nno-such-key = 1\n")).expect("writable");
    let said = infer(&["serve", "--config", &file.to_string_lossy()]);
    let (_, expected) = said
        .split_once("expected one of")
        .unwrap_or_else(|| panic!("{said}"));
    let ticked = expected.lines().next().expect("a line").split('`');
    ticked.skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_manual_has_every_key_of_the_file_and_no_other() {
    let manual = manual();
    for table in ["server", "model.NAME", "guest.NAME"] {
        let title = format!("### `[{table}]`\n");
        let (_, section) = manual
            .split_once(&*title)
            .unwrap_or_else(|| panic!("{title}"));
        let section = section.split("\n#").next().expect("a section");
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let first = rows.filter_map(|row| row.split('|').nth(1));
        let listed: BTreeSet<String> = first
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .map(str::to_owned)
            .collect();
        assert_eq!(listed, keys(table), "{table}");
    }
}

#[test]
fn a_default_priority_is_one_of_the_levels() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    for (keys, expected) in [
        ("priority-levels = 2\ndefault-priority = 3", "of 1 to 2"),
        ("default-priority = 1", "expected `priority-levels`"),
        ("priority-levels = 0", "nonzero"),
    ] {
        let text = format!("[model.m]\nref = \"efficientnet-lite0\"\n{keys}\n");
        std::fs::write(&file, text).expect("writable");
        let said = infer(&["serve", "--config", &file.to_string_lossy()]);
        assert!(said.contains(expected), "{keys}: {said}");
    }
}

#[test]
fn the_files_of_the_manual_and_the_manifest_are_read() {
    if observers::are_skipped("the manifest") {
        return;
    }
    let manual = manual();
    let (_, rest) = manual.split_once("```toml\n").expect("a file");
    let shown = rest.split("```").next().expect("its end").replace("# ", "");
    let documents = manifest();
    let deployed = documents[0]["data"]["infer.toml"].as_str().expect("a file");
    for text in [&*shown, deployed] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("infer.toml");
        std::fs::write(&file, text).expect("writable");
        let said = infer(&["serve", "--config", &file.to_string_lossy()]);
        // It is in order up to what is not there.
        assert!(
            said.contains(".wasm") && !said.contains("is no file of a server"),
            "{said}"
        );
    }
}

#[test]
fn the_file_of_the_manual_starts() {
    let manual = manual();
    let (_, rest) = manual.split_once("```toml\n").expect("a file");
    let shown = rest.split("```").next().expect("its end");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    std::fs::write(&file, shown).expect("writable");
    std::fs::create_dir(folder.path().join("labels")).expect("a folder");
    let guest = guest_path("classify-http", Abi::Component);
    std::fs::copy(guest, folder.path().join("classify-http.wasm")).expect("a guest");
    let server = Server::start(&["--config", &file.to_string_lossy(), "--drain", "0"]);
    assert_eq!(get(&server.metrics, "/v2/health/ready", &[]).status, 200);
    let photo = std::fs::read(root().join("photos/coffee.png")).expect("scripts/get-photos");
    let answer = server.post("/classify", &photo);
    assert!(answer.text().contains("espresso"), "{}", answer.text());
}

#[test]
fn the_manifest_is_valid_and_fits_the_program() {
    if observers::are_skipped("the manifest") {
        return;
    }
    let checked = observers::python()
        .args(["-m", "kubernetes_validate", "--strict", "--quiet"])
        .arg(root().join("deploy/kubernetes.yaml"))
        .output()
        .expect("python3");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    let documents = manifest();
    let pod = &documents[1]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let args: Vec<&str> = container["args"]
        .as_array()
        .expect("arguments")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(args[0], "serve");
    let help = options(&infer(&["serve", "--help"]));
    assert!(options(&args.join(" ")).is_subset(&help), "{args:?}");
    // The same file with what this machine has, on free ports.
    let text = documents[0]["data"]["infer.toml"].as_str().expect("a file");
    let guest = guest_path("faults", Abi::Component);
    let text = text
        .replace(
            "/models/efficientnet-lite0.onnx",
            &test_model("batch").to_string_lossy(),
        )
        .replace("/guests/classify-http.wasm", &guest.to_string_lossy());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    std::fs::write(&file, &text).expect("writable");
    let more: Vec<&str> = args[3..].to_vec();
    let file = file.to_string_lossy();
    let start = [
        &["--config", &*file, "--drain", "1ms", "--backend", "tract"],
        &more[..],
    ]
    .concat();
    let server = Server::start(&start);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = &container[probe]["httpGet"];
        assert_eq!(probe["port"], "metrics");
        let path = probe["path"].as_str().expect("a path");
        assert_eq!(get(&server.metrics, path, &[]).status, 200, "{path}");
    }
    assert_eq!(
        server.get("/classify/count").status,
        404,
        "its guest answers: it knows no `classify`"
    );
    // The ports are those of the file, and stopping is allowed to take as long as it may.
    let setting = |key: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")));
        let value = line.and_then(|line| line.split('"').nth(1));
        value.unwrap_or_else(|| panic!("`{key}`")).to_owned()
    };
    for port in container["ports"].as_array().expect("ports") {
        let address = setting(port["name"].as_str().expect("a name"));
        assert_eq!(address, format!("0.0.0.0:{}", port["containerPort"]));
    }
    let seconds = |key| {
        setting(key)
            .trim_end_matches('s')
            .parse::<u64>()
            .expect("seconds")
    };
    let allowed = pod["terminationGracePeriodSeconds"]
        .as_u64()
        .expect("a number");
    assert!(seconds("drain") + seconds("grace") < allowed);
    // All guests at their limits, and a body on each connection, beside what the program and its model take.
    let mebibytes = |text: &str| text.trim_end_matches("MiB").parse::<u64>().expect("MiB");
    let count = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key} = ")));
        line.and_then(|line| line.parse::<u64>().ok())
            .expect("a number")
    };
    let guest = mebibytes(&setting("max-memory")) + mebibytes(&setting("max-tensor-bytes"));
    let bodies = count("max-connections") * mebibytes(&setting("max-body"));
    let limit = container["resources"]["limits"]["memory"]
        .as_str()
        .expect("a size");
    let limit: u64 = limit.trim_end_matches("Gi").parse().expect("GiB");
    assert!(count("max-instances") * guest + bodies + 512 <= limit << 10);
}
