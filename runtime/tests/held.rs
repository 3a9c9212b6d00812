//! What a guest may hold of WASI and reach by it, and what one is told that asks for more.

mod common;

#[path = "common/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use common::{Abi, guest_path, root};
use server::{Server, send};

fn faults(args: &[&str]) -> Server {
    let path = guest_path("faults", Abi::Component);
    let path = path.to_string_lossy();
    Server::start(&[&[&*path], args].concat())
}

#[test]
fn what_costs_little_may_be_held_in_numbers() {
    let server = faults(&[]);
    // As many as a language with a garbage collector leaves behind when it reads a long body.
    let answer = server.get("/hold/pollables/20000");
    assert_eq!((answer.status, answer.text().as_str()), (200, "20000"));
    let answer = server.get("/hold/fields/2000");
    assert_eq!((answer.status, answer.text().as_str()), (200, "2000"));
    let answer = server.get("/hold/bodies/1000");
    assert_eq!((answer.status, answer.text().as_str()), (200, "1000"));
}

#[test]
fn what_the_host_pays_for_is_bounded_and_says_so() {
    let folder = format!("{}::/m:ro", root().join("models/testdata").display());
    let server = faults(&["--dir", &folder]);
    let traps = [
        (
            "fields/3000",
            "it holds 2048 fields, outgoing requests and responses",
        ),
        ("bodies/1500", "it holds 1024 bodies of outgoing requests"),
        ("outputs/2000", "it holds 1024 streams"),
        ("pollables/70000", "it holds as many resources as it may"),
    ];
    for (what, text) in traps {
        let answer = server.get(&format!("/hold/{what}"));
        assert_eq!(answer.status, 500, "{what}: {}", answer.text());
        server.wait_for_log(text);
    }
    let answer = server.get("/hold/files/2000/m/identity-f32.onnx");
    let text = answer.text();
    let (number, told) = text.split_once(": ").unwrap_or_else(|| panic!("{text}"));
    let number: usize = number.parse().expect("a number");
    assert!((1000..=1024).contains(&number), "{text}");
    assert!(told.contains("OutOfMemory"), "{text}");
    let metrics = ureq::http::Request::get(format!("http://{}/metrics", server.metrics));
    let metrics = send(metrics.body(&[][..]).expect("a request")).expect("metrics");
    let metrics = metrics.text();
    let hits = metrics.lines().find(|line| {
        line.starts_with("infer_guest_limit_hits_total") && line.contains("\"resources\"")
    });
    let hits = hits.unwrap_or_else(|| panic!("{metrics}"));
    assert!(hits.ends_with(" 5"), "{hits}");
    let answer = server.get("/hold/files/100/m/identity-f32.onnx");
    assert_eq!((answer.status, answer.text().as_str()), (200, "100"));
}

#[test]
fn requests_of_one_instance_that_nobody_answers_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().collect();
        drop(held);
    });
    let server = faults(&["--outgoing", &address]);
    let answer = server.get(&format!("/hold/requests/300/{address}"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "44"));
}

#[test]
fn the_network_is_there_where_it_is_granted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let datagrams = UdpSocket::bind(address).expect("the same port");
    let path = format!("/connect/{address}");
    let answer = faults(&[]).get(&path);
    assert_eq!(answer.status, 502, "{}", answer.text());
    let server = faults(&["--net"]);
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut word = [0; 5];
        stream.read_exact(&mut word).expect("a word");
        stream.write_all(&word).expect("written");
    });
    let answer = server.get(&path);
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    answering.join().expect("no panic");
    let mut datagram = [0; 16];
    let length = datagrams.recv(&mut datagram).expect("a datagram");
    assert_eq!(&datagram[..length], b"hello");
}
