//! Functions of WASI that are not as wasmtime has them: what a guest hands over is bounded, where it would be kept as it is,
//! and what it is told of the host is no more than its business.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::IoError;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostOutgoingRequest as Requests, HostOutgoingResponse as Responses, Method,
};
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};

use crate::host::Host;

const HTTP: &str = "wasi:http/types@0.2.12";
const ERROR: &str = "wasi:io/error@0.2.12";

/// The longest method, authority and path of a request, in bytes.
const LONGEST_METHOD: usize = 64;
const LONGEST_AUTHORITY: usize = 1024;
const LONGEST_PATH: usize = 64 << 10;

/// A function of a request that takes a text and may refuse it.
type Refusing = wasmtime::Result<Result<(), ()>>;

/// Puts these in the place of those that are there.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_http(&mut linker.instance(HTTP)?)?;
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
        "[method]outgoing-response.body",
        |mut store, (response,): (Resource<HostOutgoingResponse>,)| {
            let body = Responses::body(&mut store.data_mut().http(), response)?;
            // So that it is known at the end whose body is not finished.
            store
                .data_mut()
                .answers
                .extend(body.as_ref().ok().map(Resource::rep));
            Ok((body,))
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
            (HTTP, "[method]outgoing-request.set-authority"),
            (HTTP, "[method]outgoing-request.set-path-with-query"),
            (ERROR, "[method]error.to-debug-string"),
        ] {
            let mut found = linker.instance(instance).expect("an instance");
            let added = found.func_wrap(function, |_, (): ()| Ok(()));
            assert!(added.is_err(), "{instance}: there is no {function}");
        }
        add_to_linker(&mut linker).expect("they take the place of wasmtime's");
    }
}
