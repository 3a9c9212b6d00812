//! Guests that answer HTTP requests: components that export `wasi:http/incoming-handler`.
//!
//! Each request gets an instance of its own. The response comes when the guest gives it, its body as the guest
//! writes it; the instance goes on until the guest returns.

use std::fmt::{self, Write};

use bytes::Bytes;
use http::uri::Scheme;
use http_body::Body;
use infer_core::{Error, ErrorKind, Result, clip_to};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperOutgoingBody, StreamContext};

use crate::guest::run::{Answering, Work};
use crate::guest::{Guest, Instance, Program};
use crate::host::Host;

/// The longest text of a guest that is repeated, in bytes.
const LONGEST: usize = 500;

impl Guest {
    /// Has the guest answer a request in a new instance. Must be called within a tokio runtime that has its timers
    /// enabled.
    ///
    /// # Errors
    /// `UnsupportedOperation` where it answers none.
    pub fn answer<B>(
        &self,
        instance: Instance,
        request: http::Request<B>,
    ) -> Result<Answering<Response>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let Program::Http(proxy) = &self.program else {
            let role = self.role();
            let message = format!(
                "the guest {role}, it answers no HTTP requests: it does not export `wasi:http/incoming-handler`"
            );
            return Err(Error::new(ErrorKind::UnsupportedOperation, message));
        };
        let proxy = proxy.clone();
        Ok(self.ask(instance, |respond| Exchange {
            proxy,
            request,
            respond,
        }))
    }
}

/// A response; its body comes as the guest writes it.
type Response = http::Response<HyperOutgoingBody>;

struct Exchange<B> {
    proxy: ProxyPre<Host>,
    request: http::Request<B>,
    respond: oneshot::Sender<Result<Response>>,
}

impl<B> Work for Exchange<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    async fn perform(self, store: &mut Store<Host>) -> wasmtime::Result<u32> {
        let proxy = self.proxy.instantiate_async(&mut *store).await?;
        let scheme = match self.request.uri().scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => types::Scheme::Https,
            _ => types::Scheme::Http,
        };
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(scheme, self.request)?;
        let respond = self.respond;
        let response = http.new_response_outparam_from_callback(move |response| {
            let response = response.map_err(|code| refused(&code)).and_then(checked);
            // Nobody waits any more where the client went away.
            let _ = respond.send(response);
        })?;
        let ended = proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut *store, request, response)
            .await;
        // However it ended, by a status of its own, too.
        match (cut_off(store.data_mut()), ended) {
            (false, ended) => ended.map(|()| 0),
            (true, Err(error)) if !error.is::<I32Exit>() => Err(error),
            (true, _) => Err(wasmtime::Error::msg(
                "it ended before the body of its answer",
            )),
        }
    }
}

/// Ends the bodies that a guest has not finished, so that none looks whole; answers whether a response's is among them.
fn cut_off(host: &mut Host) -> bool {
    let answers = std::mem::take(&mut host.answers);
    let table = host.http().table;
    let is_there = |rep: &u32| {
        table
            .get(&Resource::<HostOutgoingBody>::new_borrow(*rep))
            .is_ok()
    };
    let found = answers.iter().any(is_there);
    for entry in table.iter_mut() {
        if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
            let (none, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
            std::mem::replace(body, none).abort();
        }
    }
    found
}

/// A response that can be sent as the last one.
fn checked(response: Response) -> Result<Response> {
    let status = response.status();
    match status.is_informational() {
        false => Ok(response),
        true => {
            let status = status.as_u16();
            let message = format!("expected a status of 200 or more from the guest, got {status}");
            Err(Error::new(ErrorKind::RuntimeError, message))
        }
    }
}

/// What a guest says instead of a response. Its texts may be as long as its memory.
fn refused(code: &types::ErrorCode) -> Error {
    let mut said = Clipped(String::new());
    let _ = write!(said, "{code:?}");
    let message = format!("the guest gave no response: {}", said.0);
    Error::new(ErrorKind::RuntimeError, message)
}

/// A text that ends where it becomes too long.
struct Clipped(String);

impl fmt::Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = LONGEST.saturating_sub(self.0.len());
        self.0.push_str(clip_to(text, left));
        match text.len() > left {
            true => Err(fmt::Error),
            false => Ok(()),
        }
    }
}
