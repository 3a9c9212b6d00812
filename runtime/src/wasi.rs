//! Functions of WASI that are not as wasmtime has them: what a guest hands over is bounded, where it would be kept as it is,
//! what it is told of the host is no more than its business, what it reads is copied once, from where it came to, and how
//! much it holds is counted ([`held`]).

pub(crate) mod held;

use bytes::Bytes;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::io::streams::StreamError;
use wasmtime_wasi::p2::{DynInputStream, IoError, StreamError as Unread};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as Requests, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use crate::host::Host;

const HTTP: &str = "wasi:http/types@0.2.12";
const ERROR: &str = "wasi:io/error@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// The longest method, authority and path of a request, in bytes.
const LONGEST_METHOD: usize = 64;
const LONGEST_AUTHORITY: usize = 1024;
const LONGEST_PATH: usize = 64 << 10;

/// A function of a request that takes a text and may refuse it.
type Refusing = wasmtime::Result<Result<(), ()>>;

/// What a guest reads; wasmtime's own functions make a list of the bytes first, which is another copy.
type Reading = Result<Bytes, StreamError>;

/// Puts these in the place of those that are there.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_http(&mut linker.instance(HTTP)?)?;
    add_streams(&mut linker.instance(STREAMS)?)?;
    held::add_to_linker(linker)?;
    linker.instance(ERROR)?.func_wrap(
        "[method]error.to-debug-string",
        |mut store, (error,): (Resource<IoError>,)| {
            // On one line, and without the host's stack.
            Ok((format!("{:#}", store.data_mut().ctx().table.get(&error)?),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn add_http(http: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    http.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Resource<HostOutgoingRequest>, Method)| {
            let long = matches!(&method, Method::Other(name) if name.len() > LONGEST_METHOD);
            let set = || Requests::set_method(&mut store.data_mut().http(), request, method);
            Ok((unless(long, set)?,))
        },
    )?;
    http.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store, (request, text): (Resource<HostOutgoingRequest>, Option<String>)| {
            let long = is_longer(text.as_ref(), LONGEST_AUTHORITY);
            let set = || Requests::set_authority(&mut store.data_mut().http(), request, text);
            Ok((unless(long, set)?,))
        },
    )?;
    http.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store, (request, text): (Resource<HostOutgoingRequest>, Option<String>)| {
            let long = is_longer(text.as_ref(), LONGEST_PATH);
            let set = || Requests::set_path_with_query(&mut store.data_mut().http(), request, text);
            Ok((unless(long, set)?,))
        },
    )
}

fn add_streams(streams: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    streams.func_wrap(
        "[method]input-stream.read",
        |mut store, (stream, most): (Resource<DynInputStream>, u64)| {
            let table = store.data_mut().ctx().table;
            let read = table.get_mut(&stream)?.read(size(most));
            Ok((told(read, table)?,))
        },
    )?;
    streams.func_wrap_async(
        "[method]input-stream.blocking-read",
        |mut store, (stream, most): (Resource<DynInputStream>, u64)| {
            Box::new(async move {
                let table = store.data_mut().ctx().table;
                let read = table.get_mut(&stream)?.blocking_read(size(most)).await;
                Ok((told(read, table)?,))
            })
        },
    )
}

fn size(most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// What was read as a guest is told of it.
fn told(read: Result<Bytes, Unread>, table: &mut ResourceTable) -> wasmtime::Result<Reading> {
    Ok(match read {
        Ok(bytes) => Ok(bytes),
        Err(Unread::Closed) => Err(StreamError::Closed),
        Err(Unread::LastOperationFailed(error)) => {
            Err(StreamError::LastOperationFailed(table.push(error)?))
        }
        Err(Unread::Trap(error)) => return Err(error),
    })
}

fn is_longer(text: Option<&String>, longest: usize) -> bool {
    text.is_some_and(|text| text.len() > longest)
}

/// Refuses what is too long, as what is malformed is.
fn unless(long: bool, set: impl FnOnce() -> Refusing) -> Refusing {
    match long {
        true => Ok(Err(())),
        false => set(),
    }
}

#[cfg(test)]
mod tests {
    use super::held::{CREATE_TCP, CREATE_UDP, FILES, LOOKUP, OUTGOING, STDERR, STDOUT, TCP};
    use super::*;

    /// Else these would stand beside wasmtime's, in the place of none.
    #[test]
    fn wasmtime_has_all_of_these() {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::<Host>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI");
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("HTTP");
        for (instance, function) in [
            (HTTP, "[method]outgoing-request.set-method"),
            (HTTP, "[method]outgoing-response.body"),
            (HTTP, "[method]outgoing-request.body"),
            (HTTP, "[constructor]fields"),
            (HTTP, "[static]fields.from-list"),
            (HTTP, "[method]fields.clone"),
            (FILES, "[method]descriptor.open-at"),
            (FILES, "[method]descriptor.read-directory"),
            (FILES, "[method]descriptor.read-via-stream"),
            (FILES, "[method]descriptor.write-via-stream"),
            (FILES, "[method]descriptor.append-via-stream"),
            (TCP, "[method]tcp-socket.accept"),
            (CREATE_TCP, "create-tcp-socket"),
            (CREATE_UDP, "create-udp-socket"),
            (LOOKUP, "resolve-addresses"),
            (OUTGOING, "handle"),
            (STDOUT, "get-stdout"),
            (STDERR, "get-stderr"),
            (HTTP, "[method]outgoing-request.set-authority"),
            (HTTP, "[method]outgoing-request.set-path-with-query"),
            (ERROR, "[method]error.to-debug-string"),
            (STREAMS, "[method]input-stream.read"),
            (STREAMS, "[method]input-stream.blocking-read"),
        ] {
            let mut found = linker.instance(instance).expect("an instance");
            let added = found.func_wrap(function, |_, (): ()| Ok(()));
            assert!(added.is_err(), "{instance}: there is no {function}");
        }
        add_to_linker(&mut linker).expect("they take the place of wasmtime's");
    }
}
