//! `infer serve` and guests that answer HTTP requests: what they are given, what they are refused, and that one of them
//! costs nobody else anything.

mod common;

#[path = "common/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Abi, guest_path, test_model};
use rustix::process::Signal;
use server::{Server, wait_for};

fn faults() -> String {
    let path = guest_path("faults", Abi::Component);
    path.to_string_lossy().into_owned()
}

fn identity() -> String {
    test_model("identity-f32").to_string_lossy().into_owned()
}

fn serve(more: &[&str]) -> Server {
    let (guest, model) = (faults(), identity());
    let args = [guest.as_str(), "--model", &model, "--backend", "tract"];
    Server::start(&[&args[..], more].concat())
}

/// The identity of two numbers, in a new sandbox.
fn well(server: &Server) {
    let input: Vec<u8> = [1.5f32, -2.0, 0.25, 8.0, 1e9, -0.5]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let answer = server.post("/compute/identity-f32/x/6", &input);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "1.5 -2 0.25 8 1000000000 -0.5"),
        "{}",
        server.log()
    );
}

#[test]
fn each_request_gets_an_instance_of_its_own() {
    let server = serve(&["--env", "GREETING=hi", "-v"]);
    for _ in 0..3 {
        assert_eq!(server.get("/count").text(), "1");
    }
    well(&server);
    assert_eq!(server.get("/env/GREETING").text(), "hi");
    assert_eq!(
        server.get("/env/PATH").text(),
        "",
        "no variable of the host's"
    );
    assert_eq!(server.get("/say/something").text(), "said");
    server.wait_for_log("to standard output: something");
    server.wait_for_log("to standard error: something");
    assert_eq!(server.get("/nothing").status, 404);
}

#[test]
fn bodies_are_streamed_and_limited() {
    let server = serve(&["--max-body", "1MiB"]);
    let body: Vec<u8> = (0..900_000u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(server.post("/echo", &body).body, body);
    let answer = server.post("/length", &vec![0; (1 << 20) + 1]);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(
        answer.text().contains("at most 1048576 bytes"),
        "{}",
        answer.text()
    );
    // One that does not say its length is cut where it becomes too long.
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream
        .write_all(b"POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("sent");
    let chunk = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("body size exceeds limit"), "{answer}");
    // A piece comes back before the next is sent.
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfirst")
        .expect("sent");
    let (mut seen, mut piece) = (String::new(), [0; 1024]);
    while !seen.contains("first") {
        let length = stream.read(&mut piece).expect("an answer");
        assert!(length > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    stream.write_all(b"-last").expect("sent");
    while !seen.contains("-last") {
        let length = stream.read(&mut piece).expect("an answer");
        assert!(length > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    well(&server);
}

#[test]
fn a_fault_costs_one_request() {
    let server = serve(&["--timeout", "1s", "--max-memory", "32MiB"]);
    let cases = [
        ("/trap", 500, "trapped"),
        ("/silent", 500, "ended without a response"),
        ("/hog", 500, "trapped"),
        ("/loop", 504, "stopped at its timeout"),
        ("/wait", 504, "stopped at its timeout"),
        ("/status/103", 500, "expected a status of 200 or more"),
        ("/code/500000", 500, "the guest gave no response"),
    ];
    for (path, status, logged) in cases {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(!answer.text().contains("wasm"), "{path} tells no internals");
        server.wait_for_log(logged);
        well(&server);
    }
    let halves = ["drop", "forget", "exit", "exit-well"].map(|how| format!("/half/{how}"));
    let halves = halves.iter().map(String::as_str);
    for path in ["/cut", "/late", "/flood"].into_iter().chain(halves) {
        assert!(
            server.try_send("GET", path, &[]).is_err(),
            "{path} does not pass for a whole answer"
        );
        well(&server);
    }
    server.wait_for_log("ended before the body of its answer");
    let mut cut = TcpStream::connect(&server.http).expect("it listens");
    write!(cut, "GET /cut HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut got = String::new();
    cut.read_to_string(&mut got).expect("it ends");
    assert!(
        got.starts_with("HTTP/1.1 200") && got.contains("the first part"),
        "{got}"
    );
    assert_eq!(server.get("/status/204").text(), "");
    assert_eq!(
        server.get("/requests").text(),
        "0",
        "none has a long method"
    );
    let log = server.log();
    let longest = log.lines().map(str::len).max();
    assert!(longest < Some(4096), "{longest:?}");
    assert!(
        !log.lines().any(|line| line.starts_with(" WARN forged")),
        "{log}"
    );
}

#[test]
fn what_cannot_be_interrupted_holds_up_nobody_else() {
    // A new server each time: only the thread that waited for the network last can keep it.
    let before = (0..3).any(|_| {
        let server = serve(&["--max-memory", "1GiB"]);
        let mut filling = TcpStream::connect(&server.http).expect("it listens");
        write!(filling, "GET /fill/800000000 HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        // Some time for it to begin.
        std::thread::sleep(Duration::from_millis(20));
        // The first may be answered at the moment at which it ends.
        for _ in 0..5 {
            assert_eq!(server.get("/v2/health/live").status, 200);
        }
        filling.set_nonblocking(true).expect("a socket");
        let before = filling.peek(&mut [0; 1]).is_err();
        filling.set_nonblocking(false).expect("a socket");
        filling.read_exact(&mut [0; 16]).expect("an answer");
        before
    });
    assert!(before, "the network waited for the guest");
}

/// Clients look for the answer when they have sent all.
#[test]
fn an_answer_that_comes_before_the_body_is_not_lost() {
    let server = serve(&[
        "--max-instances",
        "1",
        "--max-waiting",
        "0",
        "--timeout",
        "1h",
    ]);
    let mut running = TcpStream::connect(&server.http).expect("it listens");
    write!(running, "GET /late HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    running.read_exact(&mut [0; 16]).expect("it runs");
    for (path, status) in [
        ("/v2/models/nobody/infer", 404),
        ("/v2/nothing", 404),
        ("/v2", 405),
        ("/length", 503),
    ] {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        for _ in 0..2 {
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n"
            )
            .expect("sent");
            stream.write_all(&[b'x'; 5_000_000]).expect("sent whole");
            let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
            while !answer.ends_with(b"\n") && !answer.ends_with(b"}") {
                let length = stream.read(&mut piece).expect("an answer");
                assert!(length > 0, "{path}: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..length]);
            }
            let expected = format!("HTTP/1.1 {status}");
            assert!(answer.starts_with(expected.as_bytes()), "{path}");
        }
    }
}

/// How many instances there are now, as operators see it.
fn instances(server: &Server) -> u64 {
    let request = ureq::http::Request::get(format!("http://{}/status.json", server.metrics));
    let request = request.body(&[][..]).expect("a request");
    let status = server::send(request).expect("it listens");
    let status: serde_json::Value = serde_json::from_slice(&status.body).expect("JSON");
    status["guests"][0]["instances"].as_u64().expect("a number")
}

#[test]
fn a_client_that_goes_away_stops_its_guest() {
    let server = serve(&["--timeout", "1h"]);
    for path in ["/loop", "/wait", "/late", "/flood"] {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        wait_for("the guest runs", || instances(&server) == 1);
        drop(stream);
        wait_for("its place is given back", || instances(&server) == 0);
        well(&server);
        wait_for("so is this one's", || instances(&server) == 0);
    }
}

#[test]
fn guests_that_loop_leave_the_network_free() {
    // Far more than the runtime has threads.
    const LOOPS: u64 = 24;
    let server = serve(&["--timeout", "1h", "--max-instances", "32"]);
    let looping: Vec<TcpStream> = (0..LOOPS)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.http).expect("it listens");
            write!(stream, "GET /loop HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
            stream
        })
        .collect();
    wait_for("they run", || instances(&server) >= LOOPS);
    for _ in 0..10 {
        assert_eq!(server.get("/v2/health/ready").status, 200);
        well(&server);
    }
    drop(looping);
    wait_for("all are stopped", || instances(&server) == 0);
}

#[test]
fn who_does_not_fit_is_refused_at_once() {
    let server = serve(&[
        "--max-instances",
        "1",
        "--max-waiting",
        "1",
        "--timeout",
        "1h",
    ]);
    let hold = |path: &str| {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        stream
    };
    let mut running = hold("/late");
    running.read_exact(&mut [0; 16]).expect("it runs");
    // Of two that come now, in whichever order, one waits and the other has its refusal.
    let both = [hold("/count"), hold("/count")];
    let answered = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("a socket");
        let peeked = stream.peek(&mut [0; 1]);
        stream.set_nonblocking(false).expect("a socket");
        peeked.is_ok()
    };
    wait_for("both places are taken", || both.iter().any(answered));
    let [first, second] = both;
    let mut waiting = match answered(&first) {
        true => second,
        false => first,
    };
    let refused = server.get("/count");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.text().contains("is busy"), "{}", refused.text());
    drop(running);
    let mut answer = String::new();
    waiting
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    let mut piece = [0; 1024];
    while !answer.contains("\r\n1") {
        let length = waiting.read(&mut piece).expect("its turn comes");
        assert!(length > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    well(&server);
}

#[test]
fn what_is_not_granted_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = folder.path().join("shown");
    std::fs::create_dir(&shown).expect("a folder");
    std::fs::write(shown.join("note"), "read me").expect("written");
    let (guest, model) = (faults(), identity());
    let file = folder.path().join("infer.toml");
    let other = Server::start(&["--model", &model, "--backend", "tract"]);
    let text = format!(
        r#"
        [model.first]
        ref = "{model}"
        backend = "tract"
        [model.second]
        ref = "{model}"
        backend = "tract"
        [guest.open]
        wasm = "{guest}"
        route = "/"
        dirs = ["shown::data:ro"]
        outgoing = ["{}"]
        [guest.closed]
        wasm = "{guest}"
        route = "/closed"
        models = ["second"]
        "#,
        other.metrics
    );
    // The guest takes the first part of its path for what to do.
    let text = text.replace("route = \"/closed\"", "route = \"/model/first\"");
    std::fs::write(&file, text).expect("written");
    let server = Server::start(&["--config", file.to_str().expect("UTF-8")]);
    assert_eq!(server.get("/model/second").text(), "there");
    assert_eq!(server.get("/read/data/note").text(), "read me");
    assert_eq!(
        server.get(&format!("/get/{}", other.metrics)).text(),
        "status 404"
    );
    let denied = server.get(&format!("/get/{}", other.http));
    assert!(
        denied.text().contains("HttpRequestDenied"),
        "{}",
        denied.text()
    );
    server.wait_for_log(&format!("refused a request to `{}`", other.http));
    let refused = server.get("/model/first");
    assert_eq!(refused.status, 502);
    let text = refused.text();
    assert!(
        text.contains("`first` was not granted to this guest") && text.contains("`second`"),
        "{text}"
    );
    assert!(text.contains("security"), "{text}");
}

#[test]
fn it_stops_in_order() {
    let mut server = serve(&["--timeout", "1h", "--grace", "60s", "--drain", "500ms"]);
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream
        .write_all(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfirst")
        .expect("sent");
    assert_eq!(server.get("/v2/health/ready").status, 200);
    server.signal(Signal::TERM);
    wait_for("not ready", || server.get("/v2/health/ready").status == 503);
    assert_eq!(server.get("/v2/health/live").status, 200);
    wait_for("no more connections", || {
        TcpStream::connect(&server.http).is_err()
    });
    stream.write_all(b"-last").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.wait().success(), "{}", server.log());
}

#[test]
fn what_does_not_end_is_cut_off() {
    let mut server = serve(&["--timeout", "1h", "--grace", "200ms"]);
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream
        .write_all(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sent");
    let mut piece = [0; 16];
    stream.read_exact(&mut piece).expect("it answers");
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    let log = server.log();
    assert!(log.contains("--grace"), "{log}");
}

#[test]
fn a_bad_start_says_what_is_wrong() {
    let (guest, model) = (faults(), identity());
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let broken = write("broken.onnx", "no model");
    let unknown = write("unknown.toml", "[server]\nport = 8000\n");
    let twice = write(
        "twice.toml",
        &format!(
            "[guest.a]\nwasm = \"{guest}\"\nroute = \"/x\"\n[guest.b]\nwasm = \"{guest}\"\nroute = \"/x/\"\n"
        ),
    );
    let reserved = write(
        "reserved.toml",
        &format!("[guest.a]\nwasm = \"{guest}\"\nroute = \"/v2/x\"\n"),
    );
    let stranger = write(
        "stranger.toml",
        &format!("[guest.a]\nwasm = \"{guest}\"\nmodels = [\"nobody\"]\n"),
    );
    let time = write(
        "time.toml",
        &format!("[guest.a]\nwasm = \"{guest}\"\ntimeout = \"soon\"\n"),
    );
    let nothing = write("nothing.toml", "");
    let argument = guest_path("hello", Abi::Component);
    let argument = argument.to_string_lossy();
    let cases: [(&[&str], &str); 11] = [
        (&["--config", &nothing], "nothing to serve"),
        (&["nowhere.wasm"], "cannot read the guest `nowhere.wasm`"),
        (&["--model", &broken], "broken"),
        (&["--config", &unknown], "unknown field `port`"),
        (&["--config", &twice], "the same route"),
        (&["--config", &reserved], "not below `/v2`"),
        (&["--config", &stranger], "the model `nobody`"),
        (
            &["--config", &time],
            "expected a time such as 500ms, 10s or 2m, got `soon`",
        ),
        (&["--config", "nowhere.toml"], "nowhere.toml"),
        (&[&argument], "is a command"),
        (
            &[
                "--model",
                &model,
                "--tls-cert",
                "a.pem",
                "--tls-key",
                "b.pem",
            ],
            "a.pem",
        ),
    ];
    for (args, expected) in cases {
        let said = Server::try_start(args).err().expect("it does not start");
        assert!(said.contains(expected), "{args:?}: {said}");
        assert!(said.starts_with("error: "), "{args:?}: {said}");
    }
    let taken = Server::start(&["--model", &model]);
    let said = Server::try_start(&["--model", &model, "--http", &taken.http]).err();
    let said = said.expect("the address is taken");
    assert!(
        said.contains("cannot listen on") && said.contains("--http"),
        "{said}"
    );
}

#[test]
fn settings_that_could_mean_nothing_are_no_start() {
    let model = identity();
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").expect("written");
    let named = format!("stats={model}");
    let args: [(&[&str], &str); 4] = [
        (&["--model", &named], "cannot have the name `stats`"),
        (
            &["--model", &model, "--http", "8000"],
            "such as 127.0.0.1:8000",
        ),
        (&["--model", &model, "--queue", "x"], "expected a number"),
        (
            &["--model", &model, "--ort-lib", "no/where.so"],
            "cannot find `no/where.so` (--ort-lib)",
        ),
    ];
    for (args, expected) in args {
        let said = Server::try_start(args).err().expect("it does not start");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let file = folder.path().join("infer.toml");
    let tables = [
        (
            "[model.m]\nref = \"MODEL\"\nmax-delay = \"2ms\"",
            "expected `max-batch` beside `max-delay`",
        ),
        (
            "[server]\nadmin-token = \"token\"\n[model.m]\nref = \"MODEL\"",
            "expected `allow-model-control` beside `admin-token`",
        ),
        (
            "[model.m]\nref = \"MODEL\"\nthreads = 5000",
            "expected a number from 1 to 1024, got 5000",
        ),
        (
            "[server]\nhttp = \"8000\"",
            "expected an address and a port",
        ),
    ];
    for (text, expected) in tables {
        std::fs::write(&file, text.replace("MODEL", &model)).expect("written");
        let args = ["--config", file.to_str().expect("UTF-8")];
        let said = Server::try_start(&args).err().expect("it does not start");
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn a_model_that_comes_later_is_looked_for_beside_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("infer.toml");
    let text = "[server]\nlazy = true\n[model.m]\nref = \"late.onnx\"\nbackend = \"tract\"\n";
    std::fs::write(&file, text).expect("written");
    let server = Server::start(&["--config", &file.to_string_lossy()]);
    server.wait_for_log("cannot be loaded");
    std::fs::copy(test_model("identity-f32"), folder.path().join("late.onnx")).expect("copied");
    wait_for("ready", || server.get("/v2/health/ready").status == 200);
}

#[test]
fn models_are_swapped_and_lazily_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, "not yet a model").expect("written");
    let reference = format!("m={}", path.display());
    let guest = faults();
    let args = [guest.as_str(), "--model", &reference, "--backend", "tract"];
    assert!(Server::try_start(&args).is_err(), "a bad model is no start");
    let server = Server::start(&[&args[..], &["--lazy", "-v"]].concat());
    server.wait_for_log("cannot be loaded");
    assert_eq!(server.get("/v2/health/ready").status, 503);
    assert_eq!(server.get("/v2/health/live").status, 200);
    assert_eq!(server.get("/model/m").status, 502);
    // It is tried again by itself.
    std::fs::copy(test_model("identity-f32"), &path).expect("copied");
    wait_for("ready", || server.get("/v2/health/ready").status == 200);
    assert_eq!(server.get("/model/m").text(), "there");
    // A bad file in its place leaves the model that is there.
    std::fs::write(&path, "no model any more").expect("written");
    server.signal(Signal::HUP);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(server.get("/model/m").text(), "there");
    }
    assert_eq!(server.get("/v2/health/ready").status, 200);
}

#[test]
fn who_asks_for_nothing_is_let_go() {
    let server = serve(&[]);
    let beginnings: [&[u8]; 4] = [b"", b"P", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let silent: Vec<TcpStream> = beginnings
        .iter()
        .flat_map(|beginning| [&server.http, &server.metrics].map(|address| (beginning, address)))
        .map(|(beginning, address)| {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.write_all(beginning).expect("sent");
            stream
        })
        .collect();
    for mut stream in silent {
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("a time");
        // HTTP/2 says something first; then the connection ends.
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    well(&server);
}

#[test]
fn a_guest_without_its_folder_is_no_start_and_any_number_of_connections_is_one() {
    let (guest, model) = (faults(), identity());
    let args = [guest.as_str(), "--model", &model, "--backend", "tract"];
    let said = Server::try_start(&[&args[..], &["--dir", "/no/such/folder"]].concat());
    let said = said.err().expect("no start");
    assert!(
        said.contains("expected a folder at `/no/such/folder`"),
        "{said}"
    );
    well(&serve(&["--max-connections", "9223372036854775807"]));
}

/// A client of HTTP/2 that says what it takes, byte by byte.
struct Frames(TcpStream);

/// A frame of HTTP/2: its kind, its flags, its stream, what it holds.
type Http2Frame = (u8, u8, u8, Vec<u8>);

impl Frames {
    const DATA: u8 = 0;
    const RESET: u8 = 3;
    const END_STREAM: u8 = 1;

    /// A connection on which nothing of any answer is taken yet.
    fn connect(server: &Server) -> Frames {
        let stream = TcpStream::connect(&server.http).expect("it listens");
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("a time");
        let mut frames = Frames(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        frames.0.write_all(preface).expect("sent");
        let (settings, window_update, no_window) = (4, 8, [0, 4, 0, 0, 0, 0]);
        frames.send((settings, 0, 0, no_window.to_vec()));
        // What the server takes counts from when it has said so, and of a stream from when it is told that it was heard.
        let mut awaited = vec![settings, window_update];
        while !awaited.is_empty() {
            let kind = frames.next().0;
            awaited.retain(|awaited| *awaited != kind);
        }
        let heard = 1;
        frames.send((settings, heard, 0, Vec::new()));
        frames
    }

    fn send(&mut self, (kind, flags, stream, payload): Http2Frame) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let [_, length @ ..] = length;
        let head = [&length[..], &[kind, flags, 0, 0, 0, stream]].concat();
        let frame = [head, payload].concat();
        self.0.write_all(&frame).expect("sent");
    }

    fn post(&mut self, stream: u8, path: &str, body: &[u8]) {
        let (headers, end_headers) = (1, 4);
        let (method_post, scheme_http) = (0x83, 0x86);
        let mut fields = vec![method_post, scheme_http];
        for (name, value) in [(0x44, path), (0x41, "localhost")] {
            fields.extend([name, u8::try_from(value.len()).expect("short")]);
            fields.extend(value.as_bytes());
        }
        self.send((headers, end_headers, stream, fields));
        let mut parts = body.chunks(16 << 10).peekable();
        while let Some(part) = parts.next() {
            let end = u8::from(parts.peek().is_none());
            self.send((Frames::DATA, end, stream, part.to_vec()));
        }
    }

    fn take(&mut self, stream: u8, bytes: u32) {
        let window_update = 8;
        for of in [0, stream] {
            self.send((window_update, 0, of, bytes.to_be_bytes().to_vec()));
        }
    }

    /// The next frame; pings are answered.
    fn next(&mut self) -> Http2Frame {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).expect("a frame");
            let [a, b, c, kind, flags, .., stream] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).expect("a whole frame");
            let (ping, answered) = (6, 1);
            match kind == ping && flags & answered == 0 {
                true => self.send((ping, answered, 0, payload)),
                false => return (kind, flags, stream, payload),
            }
        }
    }
}

#[test]
fn bodies_that_nobody_reads_yet_keep_no_other_request_waiting() {
    let server = serve(&["--timeout", "20s", "--max-instances", "2"]);
    let mut frames = Frames::connect(&server);
    // More than the two that may run: guests that read nothing, as much as the server takes for each.
    let unread = vec![0; 1 << 20];
    let held: Vec<u8> = (1..=6).map(|number| number * 2 - 1).collect();
    for stream in &held {
        frames.post(*stream, "/wait", &unread);
    }
    let last = 13;
    let request = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}"#;
    frames.post(last, "/v2/models/identity-f32/infer", request.as_bytes());
    let headers = 1;
    let answered = loop {
        let (kind, _, stream, _) = frames.next();
        if kind == headers {
            break stream;
        }
    };
    assert_eq!(answered, last, "the guests' time is not up yet");
}

#[test]
fn a_stream_of_which_nothing_is_taken_ends_and_others_of_its_connection_go_on() {
    let server = serve(&["--access-log"]);
    let values = vec!["0.123456789"; 32_000];
    let request = format!(
        r#"{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [32000], "data": [{}]}}]}}"#,
        values.join(",")
    );
    let path = "/v2/models/identity-f32/infer";
    let expected = server.post(path, request.as_bytes());
    assert_eq!(expected.status, 200, "{}", expected.text());
    let mut frames = Frames::connect(&server);
    let (left, slow) = (1, 3);
    frames.post(left, path, request.as_bytes());
    frames.post(slow, path, request.as_bytes());
    // Longer in all than nothing may be taken for.
    let taken = u32::try_from(expected.body.len() / 5 + 1).expect("short");
    let started = Instant::now();
    let (mut answer, mut ended) = (Vec::new(), None);
    let (mut given, mut over) = (0, false);
    while !over || ended.is_none() {
        let due = started + Duration::from_secs(8) * given;
        if answer.len() as u32 == taken * given && given < 5 {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            frames.take(slow, taken);
            given += 1;
        }
        let (kind, flags, stream, payload) = frames.next();
        if (kind, stream) == (Frames::RESET, left) {
            ended = Some(started.elapsed());
        }
        let got = answer.len();
        assert_ne!(
            (kind, stream),
            (Frames::RESET, slow),
            "{payload:?} after {got} bytes"
        );
        if (kind, stream) == (Frames::DATA, slow) {
            answer.extend(payload);
            over |= flags & Frames::END_STREAM != 0;
        }
    }
    assert!(answer == expected.body, "what was taken slowly is whole");
    let ended = ended.expect("a stream that nobody reads ends");
    assert!(ended > Duration::from_secs(29), "{ended:?}");
    let length = expected.body.len();
    let line = format!("bytes_out={length} ");
    wait_for("lines of the answers by HTTP/1.1 and HTTP/2", || {
        server.log().matches(&line).count() == 2
    });
    well(&server);
}
