//! One connection to a server.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::request::{Answer, Made, Protocol};
use crate::serving::wire::{GrpcResponse, HEADER_LENGTH, INFER_METHOD};

/// The largest message that gRPC takes, in bytes.
const LARGEST: usize = 64 << 20;

/// A connection and the last answer that came by it.
pub struct Connection {
    address: SocketAddr,
    protocol: Protocol,
    sender: Sender,
    body: Vec<u8>,
    json: Option<usize>,
    message: GrpcResponse,
}

enum Sender {
    Http(SendRequest<Full<Bytes>>),
    Grpc(Grpc<Channel>),
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where nothing listens there.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> anyhow::Result<Connection> {
        let sender = if protocol == Protocol::Grpc {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
            let channel = endpoint.connect().await;
            let channel = channel.with_context(|| format!("cannot connect to {address}"))?;
            Sender::Grpc(Grpc::new(channel).max_decoding_message_size(LARGEST))
        } else {
            let stream = TcpStream::connect(address).await;
            let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Sender::Http(sender)
        };
        Ok(Connection {
            address,
            protocol,
            sender,
            body: Vec::new(),
            json: None,
            message: GrpcResponse::default(),
        })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// As [`Connection::receive`] and [`Connection::answer`].
    pub async fn send(&mut self, made: &Made) -> anyhow::Result<Answer<'_>> {
        self.receive(made).await?;
        self.answer()
    }

    /// Sends a request and waits for the last byte of its answer.
    ///
    /// # Errors
    /// Where the connection fails, and for a status that says of a failure.
    pub async fn receive(&mut self, made: &Made) -> anyhow::Result<()> {
        match &mut self.sender {
            Sender::Http(sender) => {
                sender.ready().await?;
                let response = sender.send_request(request(self.address, made)?).await?;
                let status = response.status();
                let json = response.headers().get(HEADER_LENGTH);
                self.json = json.and_then(|length| length.to_str().ok()?.parse().ok());
                let mut body = response.into_body();
                self.body.clear();
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        self.body.extend_from_slice(&data);
                    }
                }
                let said = || String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
                ensure!(status.is_success(), "status {status}: {}", said());
            }
            Sender::Grpc(client) => {
                client.ready().await?;
                let request = tonic::Request::new(made.message.clone());
                let path = PathAndQuery::from_static(INFER_METHOD);
                let response = client.unary(request, path, ProstCodec::default()).await?;
                self.message = response.into_inner();
            }
        }
        Ok(())
    }

    /// Reads the answer that came last.
    ///
    /// # Errors
    /// For one that is not what the protocol says.
    pub fn answer(&self) -> anyhow::Result<Answer<'_>> {
        match &self.sender {
            Sender::Http(_) => Answer::of_body(self.protocol, &self.body, self.json),
            Sender::Grpc(_) => Answer::of_message(&self.message),
        }
    }
}

fn request(address: SocketAddr, made: &Made) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::post(&made.path).header(HOST, address.to_string());
    request = match made.json {
        Some(length) => request
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(HEADER_LENGTH, length),
        None if made.path.starts_with("/v2/") => request.header(CONTENT_TYPE, "application/json"),
        None => request.header(CONTENT_TYPE, "application/octet-stream"),
    };
    Ok(request.body(Full::new(made.body.clone()))?)
}
