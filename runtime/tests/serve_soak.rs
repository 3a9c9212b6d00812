//! A server under load and faults: guests that trap, loop, hog and never end, clients that vanish, models that are
//! swapped, a signal to stop. Not one request of a client that behaves is lost or answered wrongly.
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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Abi, guest_path, test_model};
use rustix::process::Signal;
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

fn start(more: &[&str]) -> Server {
    let guest = guest_path("faults", Abi::Component);
    let (guest, model) = (guest.to_string_lossy(), test_model("identity-f32"));
    let model = model.to_string_lossy();
    let args = [&*guest, "--model", &model, "--backend", "tract"];
    Server::start(&[&args[..], more].concat())
}

/// One client's connection, kept between its requests.
struct Client(ureq::Agent);

impl Client {
    fn new() -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)));
        Client(config.build().into())
    }

    /// Whether a guest answers numbers that no other request has as they are.
    fn is_right(&self, address: &str, number: u64) -> Result<bool, String> {
        let values = [number as f32, -1.0, 0.5, (number % 7) as f32, 2.0, 3.0];
        let body: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let url = format!("http://{address}/compute/identity-f32/x/6");
        let answer = self.0.post(&url).send(&body[..]);
        let mut answer = answer.map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        let expected: Vec<String> = values.iter().map(f32::to_string).collect();
        if answer.status() != 200 {
            return Err(format!("{}: {text}", answer.status()));
        }
        Ok(text == expected.join(" "))
    }
}

/// What came of the requests of clients that behave.
#[derive(Default)]
struct Counts {
    right: AtomicU64,
    wrong: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    fn count(&self, result: &Result<bool, String>) {
        let counter = match result {
            Ok(true) => &self.right,
            Ok(false) => &self.wrong,
            Err(error) => {
                eprintln!("lost: {error}");
                &self.lost
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn all(&self) -> [u64; 3] {
        [&self.right, &self.wrong, &self.lost].map(|counter| counter.load(Ordering::Relaxed))
    }
}

#[test]
fn not_one_request_is_lost() {
    let server = start(&[
        "--timeout",
        "200ms",
        "--max-memory",
        "32MiB",
        "--max-instances",
        "32",
    ]);
    let (counts, faults, swaps, done) = (
        Counts::default(),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicBool::new(false),
    );
    let total = requests();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (server, counts) = (&server, &counts);
                scope.spawn(move || {
                    let agent = Client::new();
                    for number in (client..total).step_by(CLIENTS as usize) {
                        counts.count(&agent.is_right(&server.http, number));
                    }
                })
            })
            .collect();
        let going_on = || !done.load(Ordering::Relaxed);
        for fault in ["/trap", "/loop", "/hog", "/silent", "/cut", "/wait"] {
            let (server, faults) = (&server, &faults);
            scope.spawn(move || {
                while going_on() {
                    let answer = server.try_send("GET", fault, &[]);
                    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 500));
                    faults.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        // Clients that go away: in the middle of their request, and of the answer.
        for (head, wait) in [
            (
                "POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nsome",
                5,
            ),
            ("GET /flood HTTP/1.1\r\nhost: x\r\n\r\n", 10),
            ("GET /loop HTTP/1.1\r\nhost: x\r\n\r\n", 5),
            ("GET /wa", 5),
        ] {
            let (server, faults) = (&server, &faults);
            scope.spawn(move || {
                while going_on() {
                    let mut stream = match TcpStream::connect(&server.http) {
                        Ok(stream) => stream,
                        // This machine has no port left for another connection, for now.
                        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                            thread::sleep(Duration::from_millis(50));
                            continue;
                        }
                        Err(error) => panic!("it listens: {error}"),
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
        let (server, swaps) = (&server, &swaps);
        scope.spawn(move || {
            while going_on() {
                server.signal(Signal::HUP);
                swaps.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        for client in clients {
            client.join().expect("no panic");
        }
        done.store(true, Ordering::Relaxed);
    });
    let [right, wrong, lost] = counts.all();
    println!(
        "{right} right, {wrong} wrong, {lost} lost; beside {} faults and {} swaps of the model",
        faults.into_inner(),
        swaps.into_inner()
    );
    assert_eq!([right, wrong, lost], [total, 0, 0], "{}", server.log());
}

#[test]
fn a_signal_under_load_loses_nothing() {
    let mut server = start(&["--drain", "2s", "--grace", "60s"]);
    let (counts, address) = (Counts::default(), server.http.clone());
    let started = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (counts, address, started) = (&counts, &address, &started);
            scope.spawn(move || {
                let agent = Client::new();
                // As a load balancer does, it asks before it sends.
                for number in 0.. {
                    let ready = agent
                        .0
                        .get(format!("http://{address}/v2/health/ready"))
                        .call();
                    if ready.is_ok_and(|answer| answer.status() != 200) {
                        break;
                    }
                    counts.count(&agent.is_right(address, number * CLIENTS + client));
                    started.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        server::wait_for("load", || started.load(Ordering::Relaxed) > 200);
        server.signal(Signal::TERM);
    });
    assert!(server.wait().success(), "{}", server.log());
    let [right, wrong, lost] = counts.all();
    println!("{right} right, {wrong} wrong, {lost} lost around the signal");
    assert!(right > 200);
    assert_eq!([wrong, lost], [0, 0], "{}", server.log());
}

#[test]
fn memory_stays_flat() {
    let server = start(&[]);
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
                    for number in (client..half).step_by(CLIENTS as usize) {
                        counts.count(&agent.is_right(&server.http, number));
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
