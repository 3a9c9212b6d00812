//! How much of WASI an instance may hold. Its table has room for much that costs the host little, since languages with a
//! garbage collector leave a pollable behind for each piece of a body that they read; what takes memory or descriptors of
//! the host's is counted where it is made.

use std::any::Any;

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types as files;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, HostDescriptor as Descriptors, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::sockets::network::{self, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket as TcpSockets;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as CreateTcp;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as CreateUdp;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsResult, ReaddirIterator, SocketResult, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsView;
use wasmtime_wasi_http::p2::bindings::http::types as messages;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostFields as Fields, HostOutgoingRequest as Requests, HostOutgoingResponse as Responses,
};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use crate::host::Host;
use crate::nn::usage::Limit;

/// The most resources of WASI that a component may hold, of whatever kind.
pub(crate) const RESOURCES: usize = 1 << 16;

/// The most of a kind; for core modules, which hold files and nothing else, the most of all.
pub(crate) const MOST: usize = 1024;

/// The bytes of the fields of one request or response.
pub(crate) const FIELD_BYTES: usize = 32 << 10;

pub(super) const FILES: &str = "wasi:filesystem/types@0.2.12";
pub(super) const TCP: &str = "wasi:sockets/tcp@0.2.12";
pub(super) const CREATE_TCP: &str = "wasi:sockets/tcp-create-socket@0.2.12";
pub(super) const CREATE_UDP: &str = "wasi:sockets/udp-create-socket@0.2.12";

/// What is counted together.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Files,
    Sockets,
    /// What a guest says in fields, in requests and responses or before it makes them.
    Messages,
    Bodies,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Files => "open files, folders and streams",
            Kind::Sockets => "sockets",
            Kind::Messages => "fields, outgoing requests and responses",
            Kind::Bodies => "bodies of outgoing requests and responses",
        }
    }

    fn most(self) -> usize {
        match self {
            Kind::Files | Kind::Sockets | Kind::Bodies => MOST,
            Kind::Messages => 2 * MOST,
        }
    }

    fn has(self, entry: &(dyn Any + Send)) -> bool {
        match self {
            Kind::Files => {
                entry.is::<Descriptor>()
                    || entry.is::<ReaddirIterator>()
                    || entry.is::<DynInputStream>()
                    || entry.is::<DynOutputStream>()
            }
            Kind::Sockets => entry.is::<TcpSocket>() || entry.is::<UdpSocket>(),
            Kind::Messages => {
                entry.is::<FieldMap>()
                    || entry.is::<HostOutgoingRequest>()
                    || entry.is::<HostOutgoingResponse>()
            }
            Kind::Bodies => entry.is::<HostOutgoingBody>(),
        }
    }
}

/// Whether an instance holds as many as it may.
fn has_all(host: &mut Host, kind: Kind) -> bool {
    let table = host.ctx().table;
    let held = table.iter_mut().filter(|entry| kind.has(&**entry)).count();
    let all = held >= kind.most();
    if all {
        host.nn.usage.hit(Limit::Resources);
        tracing::info!("the guest is refused more than {held} {}", kind.name());
    }
    all
}

/// A trap, where WASI has no error for it.
fn check(host: &mut Host, kind: Kind) -> wasmtime::Result<()> {
    match has_all(host, kind) {
        true => Err(wasmtime::Error::msg(format!(
            "it holds {} {}, the most that a guest may",
            kind.most(),
            kind.name()
        ))),
        false => Ok(()),
    }
}

/// Puts functions that count in the place of wasmtime's.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    add_messages(linker)?;
    add_files(linker)?;
    add_sockets(linker)
}

fn add_messages(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut http = linker.instance(super::HTTP)?;
    http.func_wrap("[constructor]fields", |mut store, (): ()| {
        let host = store.data_mut();
        check(host, Kind::Messages)?;
        Ok((Fields::new(&mut host.http())?,))
    })?;
    http.func_wrap(
        "[static]fields.from-list",
        |mut store, (fields,): (Vec<(String, Vec<u8>)>,)| {
            let host = store.data_mut();
            check(host, Kind::Messages)?;
            let mut http = host.http();
            Ok((match Fields::from_list(&mut http, fields) {
                Ok(fields) => Ok(fields),
                Err(error) => Err(messages::Host::convert_header_error(&mut http, error)?),
            },))
        },
    )?;
    http.func_wrap(
        "[method]fields.clone",
        |mut store, (fields,): (Resource<FieldMap>,)| {
            let host = store.data_mut();
            check(host, Kind::Messages)?;
            Ok((Fields::clone(&mut host.http(), fields)?,))
        },
    )?;
    http.func_wrap(
        "[method]outgoing-request.body",
        |mut store, (request,): (Resource<HostOutgoingRequest>,)| {
            let host = store.data_mut();
            check(host, Kind::Bodies)?;
            Ok((Requests::body(&mut host.http(), request)?,))
        },
    )?;
    http.func_wrap(
        "[method]outgoing-response.body",
        |mut store, (response,): (Resource<HostOutgoingResponse>,)| {
            let host = store.data_mut();
            check(host, Kind::Bodies)?;
            let body = Responses::body(&mut host.http(), response)?;
            // So that it is known at the end whose body is not finished.
            host.answers.extend(body.as_ref().ok().map(Resource::rep));
            Ok((body,))
        },
    )
}

/// What a guest is told where it has all of the files that it may; WASI has no nearer word.
const NO_MORE_FILES: files::ErrorCode = files::ErrorCode::InsufficientMemory;

fn add_files(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Opened = (
        Resource<Descriptor>,
        PathFlags,
        String,
        OpenFlags,
        DescriptorFlags,
    );
    let mut added = linker.instance(FILES)?;
    added.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store, (folder, path_flags, path, open_flags, flags): Opened| {
            Box::new(async move {
                let host = store.data_mut();
                if has_all(host, Kind::Files) {
                    return Ok((Err(NO_MORE_FILES),));
                }
                let mut files = host.filesystem();
                let opened = files
                    .open_at(folder, path_flags, path, open_flags, flags)
                    .await;
                Ok((told(host, opened)?,))
            })
        },
    )?;
    added.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store, (folder,): (Resource<Descriptor>,)| {
            Box::new(async move {
                let host = store.data_mut();
                if has_all(host, Kind::Files) {
                    return Ok((Err(NO_MORE_FILES),));
                }
                let read = host.filesystem().read_directory(folder).await;
                Ok((told(host, read)?,))
            })
        },
    )?;
    added.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store, (file, offset): (Resource<Descriptor>, u64)| {
            let host = store.data_mut();
            if has_all(host, Kind::Files) {
                return Ok((Err(NO_MORE_FILES),));
            }
            let stream = host.filesystem().read_via_stream(file, offset);
            Ok((told(host, stream)?,))
        },
    )?;
    added.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store, (file, offset): (Resource<Descriptor>, u64)| {
            let host = store.data_mut();
            if has_all(host, Kind::Files) {
                return Ok((Err(NO_MORE_FILES),));
            }
            let stream = host.filesystem().write_via_stream(file, offset);
            Ok((told(host, stream)?,))
        },
    )?;
    added.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store, (file,): (Resource<Descriptor>,)| {
            let host = store.data_mut();
            if has_all(host, Kind::Files) {
                return Ok((Err(NO_MORE_FILES),));
            }
            let stream = host.filesystem().append_via_stream(file);
            Ok((told(host, stream)?,))
        },
    )
}

/// What a file's function gave, as a guest is told of it.
fn told<T>(host: &mut Host, given: FsResult<T>) -> wasmtime::Result<Result<T, files::ErrorCode>> {
    Ok(match given {
        Ok(given) => Ok(given),
        Err(error) => Err(files::Host::convert_error_code(
            &mut host.filesystem(),
            error,
        )?),
    })
}

fn add_sockets(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(CREATE_TCP)?.func_wrap(
        "create-tcp-socket",
        |mut store, (family,): (IpAddressFamily,)| {
            let host = store.data_mut();
            if has_all(host, Kind::Sockets) {
                return Ok((Err(network::ErrorCode::NewSocketLimit),));
            }
            let socket = host.sockets().create_tcp_socket(family);
            Ok((told_of_socket(host, socket)?,))
        },
    )?;
    linker.instance(CREATE_UDP)?.func_wrap_async(
        "create-udp-socket",
        |mut store, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let host = store.data_mut();
                if has_all(host, Kind::Sockets) {
                    return Ok((Err(network::ErrorCode::NewSocketLimit),));
                }
                let socket = host.sockets().create_udp_socket(family).await;
                Ok((told_of_socket(host, socket)?,))
            })
        },
    )?;
    linker.instance(TCP)?.func_wrap(
        "[method]tcp-socket.accept",
        |mut store, (socket,): (Resource<TcpSocket>,)| {
            let host = store.data_mut();
            if has_all(host, Kind::Sockets) {
                return Ok((Err(network::ErrorCode::NewSocketLimit),));
            }
            let accepted = TcpSockets::accept(&mut host.sockets(), socket);
            Ok((told_of_socket(host, accepted)?,))
        },
    )
}

fn told_of_socket<T>(
    host: &mut Host,
    given: SocketResult<T>,
) -> wasmtime::Result<Result<T, network::ErrorCode>> {
    Ok(match given {
        Ok(given) => Ok(given),
        Err(error) => Err(network::Host::convert_error_code(
            &mut host.sockets(),
            error,
        )?),
    })
}
