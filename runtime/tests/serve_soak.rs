//! A server under load and faults: guests that trap, loop, hog and never end, clients that vanish, a model that another
//! takes the place of, a signal to stop. Not one request of a client that behaves is lost or answered wrongly, whether a guest
//! answers it or the protocol.
//!
//! `INFER_SOAK_REQUESTS=1000000` says how many requests there are; the counts are printed (`--nocapture`).

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the counts are what it is run for"
)]

mod common;

#[path = "common/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

use common::{Abi, guest_path, test_model};
use rustix::process::Signal;
use serde_json::{Value, json};
use server::Server;

/// Requests of clients that behave, unless the environment says otherwise.
const REQUESTS: u64 = 4000;

/// Clients that behave, at one time.
const CLIENTS: u64 = 4;

/// By how much the server's memory may grow in the second half of all requests, in bytes.
const GROWTH: u64 = 24 << 20;

fn requests() -> u64 {
    std::env::var("INFER_SOAK_REQUESTS").map_or(REQUESTS, |text| text.parse().expect("a number"))
}

/// A server of the guest `faults` and a model in this file, the name of which is `model`.
fn start(model: &Path, more: &[&str]) -> Server {
    let guest = guest_path("faults", Abi::Component);
    let (guest, model) = (
        guest.to_string_lossy(),
        format!("model={}", model.display()),
    );
    let args = [&*guest, "--model", &model, "--backend", "tract"];
    Server::start(&[&args[..], more].concat())
}

/// What the model makes of a value, by its file.
const MODELS: [(&str, f32); 2] = [("identity-f32", 1.0), ("negate", -1.0)];

/// One client's connection, kept between its requests.
struct Client(ureq::Agent);

impl Client {
    fn new() -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)));
        Client(config.build().into())
    }

    /// What numbers that no other request has become, by a guest or by the protocol: the place of the model in `MODELS`
    /// that gives that, if one does.
    fn ask(&self, address: &str, number: u64) -> Result<Option<usize>, String> {
        let values = [number as f32, -1.0, 0.5, (number % 7) as f32, 2.0, 3.0];
        let answer = match number % 2 {
            0 => self.ask_guest(address, values)?,
            _ => self.ask_model(address, values)?,
        };
        let is_by = |factor: f32| answer == values.map(|value| value * factor);
        Ok(MODELS.iter().position(|(_, factor)| is_by(*factor)))
    }

    fn ask_guest(&self, address: &str, values: [f32; 6]) -> Result<Vec<f32>, String> {
        let body: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let text = self.post(&format!("http://{address}/compute/model/x/6"), &body)?;
        let values = text.split(' ').map(|value| value.parse::<f32>());
        values.collect::<Result<_, _>>().map_err(|_| text.clone())
    }

    fn ask_model(&self, address: &str, values: [f32; 6]) -> Result<Vec<f32>, String> {
        let input = json!({ "name": "x", "datatype": "FP32", "shape": [6], "data": values });
        let body = json!({ "inputs": [input] }).to_string();
        let url = format!("http://{address}/v2/models/model/infer");
        let text = self.post(&url, body.as_bytes())?;
        let answer: Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
        let data = answer["outputs"][0]["data"].as_array();
        let values = data.map(|data| {
            data.iter()
                .filter_map(Value::as_f64)
                .map(|v| v as f32)
                .collect()
        });
        values.ok_or(text)
    }

    fn post(&self, url: &str, body: &[u8]) -> Result<String, String> {
        let answer = self.0.post(url).send(body);
        let mut answer = answer.map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        match answer.status() == 200 {
            true => Ok(text),
            false => Err(format!("{}: {text}", answer.status())),
        }
    }
}

/// What came of the requests of clients that behave: right answers by the model that gave them, and others.
#[derive(Default)]
struct Counts {
    right: [AtomicU64; 2],
    wrong: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    fn count(&self, result: &Result<Option<usize>, String>) {
        let counter = match result {
            Ok(Some(model)) => &self.right[*model],
            Ok(None) => &self.wrong,
            Err(error) => {
                eprintln!("lost: {error}");
                &self.lost
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn right(&self) -> u64 {
        let [first, second] = &self.right;
        first.load(Ordering::Relaxed) + second.load(Ordering::Relaxed)
    }

    /// Those that are right, wrong and lost.
    fn all(&self) -> [u64; 3] {
        let [wrong, lost] =
            [&self.wrong, &self.lost].map(|counter| counter.load(Ordering::Relaxed));
        [self.right(), wrong, lost]
    }
}

/// Has guests go wrong and clients vanish as long as it is so; the counter has how often.
fn misbehave<'scope>(
    scope: &'scope Scope<'scope, '_>,
    address: &'scope str,
    (faults, going_on): (&'scope AtomicU64, &'scope AtomicBool),
) {
    for fault in ["/trap", "/loop", "/hog", "/silent", "/cut", "/wait"] {
        scope.spawn(move || {
            let client = Client::new();
            while going_on.load(Ordering::Relaxed) {
                let answer = client.0.get(format!("http://{address}{fault}")).call();
                let whole = answer.and_then(|mut answer| {
                    answer.body_mut().read_to_string()?;
                    Ok(answer.status())
                });
                assert!(whole.is_err() || whole.is_ok_and(|status| status.is_server_error()));
                faults.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
    }
    // In the middle of their request, and of the answer.
    for (head, wait) in [
        (
            "POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nsome",
            5,
        ),
        (
            "POST /v2/models/model/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
            5,
        ),
        ("GET /flood HTTP/1.1\r\nhost: x\r\n\r\n", 10),
        ("GET /loop HTTP/1.1\r\nhost: x\r\n\r\n", 5),
        ("GET /wa", 5),
    ] {
        scope.spawn(move || {
            while going_on.load(Ordering::Relaxed) {
                // It listens no more at its end, and this machine may have no port left for another connection, for now.
                let Ok(mut stream) = TcpStream::connect(address) else {
                    thread::sleep(Duration::from_millis(50));
                    continue;
                };
                // The server may be quicker to see that there is nothing to come.
                let _ = stream.write_all(head.as_bytes());
                thread::sleep(Duration::from_millis(wait));
                drop(stream);
                faults.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
    }
}

/// Ends the faults where a test ends, however it does.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The limits under which guests go wrong.
const LIMITS: [&str; 6] = [
    "--timeout",
    "200ms",
    "--max-memory",
    "32MiB",
    "--max-instances",
    "32",
];

#[test]
fn not_one_request_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.onnx");
    let put = |model: &str| {
        let new = folder.path().join("new");
        std::fs::copy(test_model(model), &new).expect("copied");
        std::fs::rename(&new, &file).expect("renamed");
    };
    put(MODELS[0].0);
    let server = start(&file, &LIMITS);
    let (counts, faults, going_on) = (Counts::default(), AtomicU64::new(0), AtomicBool::new(true));
    let (total, mut swaps) = (requests(), 0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (server, counts) = (&server, &counts);
                scope.spawn(move || {
                    let agent = Client::new();
                    // One answers by its number whether a guest is asked: each client asks both.
                    for number in (0..total).filter(|number| number / 2 % CLIENTS == client) {
                        counts.count(&agent.ask(&server.http, number));
                    }
                })
            })
            .collect();
        let _ends = Ends(&going_on);
        misbehave(scope, &server.http, (&faults, &going_on));
        let asks = Client::new();
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            swaps += 1;
            let (model, _) = MODELS[swaps % 2];
            put(model);
            server.signal(Signal::HUP);
            // Each is seen to answer before the next takes its place.
            server::wait_for("the other model", || {
                let answer = asks.ask(&server.http, 1);
                answer.is_ok_and(|by| by == Some(swaps % 2))
            });
        }
        for client in clients {
            client.join().expect("no panic");
        }
    });
    let [right, wrong, lost] = counts.all();
    println!(
        "{right} right, {wrong} wrong, {lost} lost; beside {} faults and {swaps} swaps of the model",
        faults.into_inner(),
    );
    assert_eq!([right, wrong, lost], [total, 0, 0], "{}", server.log());
    let by_each = counts.right.map(AtomicU64::into_inner);
    assert!(by_each.iter().all(|count| *count > 0), "{by_each:?}");
}

#[test]
fn a_signal_under_load_loses_nothing() {
    let model = test_model("identity-f32");
    // Long enough for each client to hear of it, and for its requests, on a machine that is busy.
    let ending = ["--drain", "5s", "--grace", "60s", "--timeout", "5s"];
    let mut server = start(&model, &[&ending[..], &LIMITS[2..]].concat());
    let (counts, address) = (Counts::default(), server.http.clone());
    let (faults, going_on) = (AtomicU64::new(0), AtomicBool::new(true));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (counts, address, going_on) = (&counts, &address, &going_on);
                scope.spawn(move || {
                    let agent = Client::new();
                    // As a load balancer does, it asks before it sends.
                    for number in (0..).take_while(|_| going_on.load(Ordering::Relaxed)) {
                        let ready = agent
                            .0
                            .get(format!("http://{address}/v2/health/ready"))
                            .call();
                        match ready {
                            Ok(answer) if answer.status() == 200 => {}
                            Ok(_) => break,
                            // It answers as long as it has not said that it is not ready.
                            Err(error) => return counts.count(&Err(error.to_string())),
                        }
                        counts.count(&agent.ask(address, number * (CLIENTS + 1) + client));
                    }
                })
            })
            .collect();
        let _ends = Ends(&going_on);
        misbehave(scope, &address, (&faults, &going_on));
        server::wait_for("load", || counts.right() > 200);
        server.signal(Signal::TERM);
        for client in clients {
            client.join().expect("no panic");
        }
    });
    assert!(server.wait().success(), "{}", server.log());
    let [right, wrong, lost] = counts.all();
    println!("{right} right, {wrong} wrong, {lost} lost around the signal");
    assert!(right > 200);
    assert_eq!([wrong, lost], [0, 0], "{}", server.log());
}

#[test]
fn memory_stays_flat() {
    let server = start(&test_model("identity-f32"), &[]);
    let resident = || {
        let path = format!("/proc/{}/status", server.id());
        let mut text = String::new();
        let mut file = std::fs::File::open(path).expect("it runs");
        file.read_to_string(&mut text).expect("readable");
        let line = text.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kilobytes.expect("a number") * 1024
    };
    let (counts, half) = (Counts::default(), requests() / 2);
    let run = || {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (server, counts) = (&server, &counts);
                scope.spawn(move || {
                    let agent = Client::new();
                    for number in (0..half).filter(|number| number / 2 % CLIENTS == client) {
                        counts.count(&agent.ask(&server.http, number));
                    }
                });
            }
        });
    };
    run();
    let before = resident();
    run();
    let after = resident();
    let [right, wrong, lost] = counts.all();
    println!(
        "{right} right, {wrong} wrong, {lost} lost; resident {} MB after half of them, {} MB after all",
        before / 1_000_000,
        after / 1_000_000
    );
    assert_eq!([right, wrong, lost], [2 * half, 0, 0]);
    assert!(after < before + GROWTH, "{before} bytes became {after}");
}
