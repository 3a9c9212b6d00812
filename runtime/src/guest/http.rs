//! Guests that answer HTTP requests: components that export `wasi:http/incoming-handler`.
//!
//! Each request gets an instance of its own. The response comes when the guest gives it, its body as the guest
//! writes it; the instance goes on until the guest returns.

use std::pin::Pin;

use bytes::Bytes;
use http::uri::Scheme;
use http_body::Body;
use infer_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::guest::run::{Stopper, Work};
use crate::guest::{Guest, Instance, Outcome, Program};
use crate::host::Host;
use crate::nn::usage::Usage;

/// A request that a guest is asked to answer.
pub struct Answering {
    /// Comes when the guest has said status and headers, or what went wrong for it; is dropped if it ends without.
    pub response: oneshot::Receiver<Result<http::Response<HyperOutgoingBody>>>,
    /// How the instance ends. Nothing is done before it is first polled, and dropping it stops the instance.
    pub outcome: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    /// Stops it, and leaves the outcome to be waited for.
    pub stop: Stopper,
}

impl Guest {
    /// Has the guest answer a request in a new instance. Must be called within a tokio runtime that has its timers
    /// enabled.
    ///
    /// # Errors
    /// `UnsupportedOperation` where it answers none.
    pub fn answer<B>(&self, instance: Instance, request: http::Request<B>) -> Result<Answering>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let Program::Http(proxy) = &self.program else {
            let message = "the guest answers no HTTP requests: it does not export `wasi:http/incoming-handler`";
            return Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("build it as a handler of requests, or run it: infer run GUEST"));
        };
        let (respond, response) = oneshot::channel();
        let work = Exchange {
            proxy: proxy.clone(),
            request,
            respond,
        };
        let usage = Usage::new(&instance.limits);
        let (running, stop) = self.elsewhere(work, instance, usage.clone());
        let outcome = Box::pin(async move {
            Outcome {
                end: running.await,
                usage,
            }
        });
        Ok(Answering {
            response,
            outcome,
            stop,
        })
    }
}

struct Exchange<B> {
    proxy: ProxyPre<Host>,
    request: http::Request<B>,
    respond: oneshot::Sender<Result<http::Response<HyperOutgoingBody>>>,
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
            // Nobody waits any more where the client went away.
            let _ = respond.send(response.map_err(|code| refused(&code)));
        })?;
        proxy
            .wasi_http_incoming_handler()
            .call_handle(store, request, response)
            .await?;
        Ok(0)
    }
}

/// What a guest says instead of a response.
fn refused(code: &types::ErrorCode) -> Error {
    let message = format!("the guest gave no response: {code:?}");
    Error::new(ErrorKind::RuntimeError, message)
}
