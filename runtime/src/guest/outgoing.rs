//! HTTP requests that a guest sends: to hosts that it was granted, and to no other.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use infer_core::clip;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::config::{Grants, HostGrant};

type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Ended), Error>> + Send>;

/// What one instance may send requests to.
pub(crate) struct Outgoing {
    guest: String,
    request: String,
    any: bool,
    hosts: Vec<HostGrant>,
    /// Held by each of its connections.
    connections: Arc<()>,
}

impl Outgoing {
    /// For a guest of this name that answers a request of this id.
    pub(crate) fn new((guest, request): (&str, String), grants: &Grants) -> Outgoing {
        Outgoing {
            guest: guest.to_owned(),
            request,
            any: grants.network,
            hosts: grants.outgoing.clone(),
            connections: Arc::default(),
        }
    }

    fn allows(&self, uri: &http::Uri) -> bool {
        let usual = match uri.scheme() == Some(&Scheme::HTTP) {
            true => 80,
            false => 443,
        };
        let granted = |authority: &Authority| {
            self.hosts.iter().any(|grant| {
                grant.host.eq_ignore_ascii_case(authority.host())
                    && authority.port_u16().unwrap_or(usual) == grant.port.unwrap_or(usual)
            })
        };
        self.any || uri.authority().is_some_and(granted)
    }
}

/// The most connections of one instance at one time: each takes a descriptor of the host's.
const MOST_CONNECTIONS: usize = 256;

/// The most bytes of the fields of a response.
const LONGEST_FIELDS: usize = 64 << 10;

/// What may be written of a body at one time, in bytes. Two of these may wait for whoever reads it.
const PIECE: usize = 64 << 10;

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _ended: Ended,
    ) -> Sending {
        if !self.allows(request.uri()) {
            let host = request.uri().authority().map_or("", Authority::as_str);
            tracing::warn!(
                guest = self.guest,
                request_id = self.request,
                "a guest was refused a request to `{}`, which it was not granted (--net, `outgoing`)",
                clip(host)
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        if Arc::strong_count(&self.connections) > MOST_CONNECTIONS {
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        }
        let connection = self.connections.clone();
        Box::new(async move {
            let (mut response, ended) =
                wasmtime_wasi_http::default_send_request(request, options).await?;
            own(response.headers_mut())?;
            let ended = async move {
                let ended = ended.await;
                drop(connection);
                ended
            };
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(ended) as Ended,
            ))
        })
    }
}

/// Copies fields out of the buffer that they were read into, which they would keep: it may be many times as large.
fn own(fields: &mut HeaderMap) -> Result<(), Error> {
    let bytes = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    if bytes.sum::<usize>() > LONGEST_FIELDS {
        return Err(Error::HttpResponseHeaderSectionSize(None));
    }
    for value in fields.values_mut() {
        if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = own;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_hosts_are_reached() {
        let hosts = vec![
            HostGrant {
                host: "api.example".to_owned(),
                port: None,
            },
            HostGrant {
                host: "127.0.0.1".to_owned(),
                port: Some(9000),
            },
        ];
        let outgoing = Outgoing {
            guest: String::new(),
            request: String::new(),
            any: false,
            hosts,
            connections: Arc::default(),
        };
        let cases = [
            ("https://api.example/x", true),
            ("http://API.example:80/", true),
            ("https://api.example:80/", false),
            ("http://127.0.0.1:9000/", true),
            ("http://127.0.0.1/", false),
            ("https://api.example.evil/", false),
            ("https://user@evil:443/", false),
            ("/path", false),
        ];
        for (uri, allowed) in cases {
            let uri: http::Uri = uri.parse().expect("a URI");
            assert_eq!(outgoing.allows(&uri), allowed, "{uri}");
        }
    }
}
