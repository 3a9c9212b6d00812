//! Cases of WASI alone: what a guest sees of the world outside the models. No inference follows.

use crate::case::{Case, Expected, Failure, Outcome};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[
    Case::plain(
        "host-read-outside",
        Expected::Ok,
        "reads PATH=/etc/passwd; `denied: ...` when it cannot",
        |arguments| {
            let path = arguments.first().map_or("/etc/passwd", String::as_str);
            Ok(std::fs::read(path)
                .map_or_else(denied, |bytes| format!("read {} bytes", bytes.len())))
        },
    ),
    Case::plain(
        "host-write",
        Expected::Ok,
        "writes PATH=out.txt; `denied: ...` when it cannot",
        |arguments| {
            let path = arguments.first().map_or("out.txt", String::as_str);
            Ok(std::fs::write(path, "written by the guest")
                .map_or_else(denied, |()| "written".into()))
        },
    ),
    Case::plain(
        "net-connect",
        Expected::Ok,
        "connects to ADDRESS=127.0.0.1:9; `denied: ...` when it cannot",
        |arguments| {
            let address = arguments.first().map_or("127.0.0.1:9", String::as_str);
            Ok(TcpStream::connect(address).map_or_else(denied, |_| "connected".into()))
        },
    ),
    Case::plain(
        "env-print",
        Expected::Ok,
        "prints every variable of the environment, sorted",
        |_| {
            let mut variables: Vec<String> = std::env::vars()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            variables.sort_unstable();
            Ok(format!("{variables:?}"))
        },
    ),
    Case::plain(
        "args-print",
        Expected::Ok,
        "prints every argument, its own name first",
        |_| Ok(format!("{:?}", std::env::args().collect::<Vec<_>>())),
    ),
    Case::plain(
        "stdin-echo",
        Expected::Ok,
        "copies standard input to standard output before its line",
        |_| {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map_err(wrong)?;
            io::stdout().write_all(&bytes).map_err(wrong)?;
            if !bytes.ends_with(b"\n") {
                println!();
            }
            Ok(format!("{} bytes", bytes.len()))
        },
    ),
    Case::plain(
        "stderr-print",
        Expected::Ok,
        "prints a line to standard error",
        |_| {
            eprintln!("a line of the guest");
            Ok(String::new())
        },
    ),
    Case::plain(
        "trap-unreachable",
        Expected::Trap,
        "runs the instruction `unreachable`",
        |_| std::process::abort(),
    ),
    Case::plain("panic", Expected::Trap, "panics", |arguments| -> Outcome {
        panic!("a panic of the guest, with {} arguments", arguments.len())
    }),
];

fn denied(error: io::Error) -> String {
    format!("denied: {error}")
}

fn wrong(error: io::Error) -> Failure {
    Failure::Wrong(error.to_string())
}
