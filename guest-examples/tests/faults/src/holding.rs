//! Holds much of what the host has to keep for a guest, and reaches for the network.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use wasip2::cli::stdout;
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};

/// What the host lets an instance have.
const CONNECTIONS: usize = 256;

/// `KIND/NUMBER[/WHERE]`: holds so many at once, or as many as the host lets it; answers how many, and what it was told
/// where there were to be more.
pub(crate) fn hold(with: &str) -> Result<String, String> {
    let mut parts = with.splitn(3, '/');
    let (kind, number) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let number: usize = number.parse().map_err(|_| "expected KIND/NUMBER")?;
    let place = parts.next().unwrap_or("");
    match kind {
        "pollables" => Ok(all(number, || monotonic_clock::subscribe_duration(0))),
        "fields" => Ok(all(number, Fields::new)),
        "bodies" => Ok(all(number, || {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body();
            drop(request);
            body
        })),
        "outputs" => Ok(all(number, stdout::get_stdout)),
        "files" => Ok(until_refused(number, || File::open(place))),
        "requests" => requests(number, place),
        _ => Err(format!("no such kind: {kind}")),
    }
}

fn all<T>(number: usize, one: impl FnMut() -> T) -> String {
    let held: Vec<T> = std::iter::repeat_with(one).take(number).collect();
    held.len().to_string()
}

fn until_refused<T, E: Debug>(number: usize, one: impl FnMut() -> Result<T, E>) -> String {
    let mut held = Vec::new();
    for one in std::iter::repeat_with(one).take(number) {
        match one {
            Ok(one) => held.push(one),
            Err(error) => return format!("{}: {error:?}", held.len()),
        }
    }
    held.len().to_string()
}

/// Sends requests to who answers none; answers how many the host refused for their number.
fn requests(number: usize, authority: &str) -> Result<String, String> {
    let mut sent = Vec::new();
    for _ in 0..number {
        let request = OutgoingRequest::new(Fields::new());
        let set = request
            .set_scheme(Some(&Scheme::Http))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some("/")));
        set.map_err(|()| "a bad authority")?;
        sent.push(outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?);
    }
    for refused in sent.iter().skip(CONNECTIONS) {
        refused.subscribe().block();
    }
    let refused = sent.iter().filter(|response| {
        matches!(
            response.get(),
            Some(Ok(Err(ErrorCode::ConnectionLimitReached)))
        )
    });
    Ok(refused.count().to_string())
}

/// Says a word to an address by TCP, gives what comes back, and sends it on by UDP.
pub(crate) fn connect(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(answer.as_bytes(), address)?;
    Ok(answer)
}
