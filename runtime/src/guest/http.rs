//! Guests that answer HTTP requests: components that export `wasi:http/incoming-handler`.
//!
//! Each request gets an instance of its own. The response comes when the guest gives it, its body as the guest
//! writes it; the instance goes on until the guest returns.

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

use crate::guest::run::{Answering, Work};
use crate::guest::{Guest, Instance, Program};
use crate::host::Host;

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
