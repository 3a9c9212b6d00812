//! How much of WASI an instance may hold. Its table has room for much that costs the host little, since languages with a
//! garbage collector leave a pollable behind for each piece of a body that they read; what takes memory or descriptors of
//! the host's is counted where it is made.

use std::any::Any;

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::cli::stderr::Host as Stderr;
use wasmtime_wasi::p2::bindings::cli::stdout::Host as Stdout;
use wasmtime_wasi::p2::bindings::filesystem::types as files;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, HostDescriptor as Descriptors, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::Host as Lookup;
use wasmtime_wasi::p2::bindings::sockets::network::{self, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket as TcpSockets;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as CreateTcp;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as CreateUdp;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsResult, Network, ReaddirIterator, SocketResult, TcpSocket,
    UdpSocket,
};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as Handler;
use wasmtime_wasi_http::p2::bindings::http::types as messages;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostFields as Fields, HostOutgoingRequest as Requests, HostOutgoingResponse as Responses,
};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions, WasiHttpView};

use crate::host::Host;
use crate::nn::usage::Limit;

/// The most resources of WASI that a component may hold, of whatever kind.
pub(crate) const RESOURCES: usize = 1 << 16;

/// The most of a kind; of a core module, which holds little but files, the most of all.
pub(crate) const MOST: usize = 1024;

/// The bytes of the fields of one request or response.
pub(crate) const FIELD_BYTES: usize = 32 << 10;

pub(super) const FILES: &str = "wasi:filesystem/types@0.2.12";
pub(super) const OUTGOING: &str = "wasi:http/outgoing-handler@0.2.12";
pub(super) const STDOUT: &str = "wasi:cli/stdout@0.2.12";
pub(super) const STDERR: &str = "wasi:cli/stderr@0.2.12";
pub(super) const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";
pub(super) const TCP: &str = "wasi:sockets/tcp@0.2.12";
pub(super) const CREATE_TCP: &str = "wasi:sockets/tcp-create-socket@0.2.12";
pub(super) const CREATE_UDP: &str = "wasi:sockets/udp-create-socket@0.2.12";

/// The longest name that is looked up, in bytes: the longest that there are.
const LONGEST_NAME: usize = 255;

/// What is counted together.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Files,
    /// Listings of folders, each of which is read whole.
    Listings,
    /// Of files, sockets, bodies and standard output, which cannot be told from each other.
    Streams,
    Sockets,
    /// What a guest says in fields, in requests and responses or before it makes them.
    Messages,
    /// What a guest writes of these.
    Bodies,
    /// What was answered to its requests, and those that are not answered.
    Answers,
}

const KINDS: usize = 7;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Files => "open files",
            Kind::Listings => "listings of folders",
            Kind::Streams => "streams",
            Kind::Sockets => "sockets",
            Kind::Messages => "fields, outgoing requests and responses",
            Kind::Bodies => "bodies of outgoing requests and responses",
            Kind::Answers => "answers to outgoing requests",
        }
    }

    fn most(self) -> usize {
        match self {
            Kind::Listings => 64,
            Kind::Messages => 2 * MOST,
            _ => MOST,
        }
    }

    fn has(self, entry: &(dyn Any + Send)) -> bool {
        match self {
            Kind::Files => entry.is::<Descriptor>(),
            Kind::Listings => entry.is::<ReaddirIterator>(),
            Kind::Streams => entry.is::<DynInputStream>() || entry.is::<DynOutputStream>(),
            Kind::Sockets => entry.is::<TcpSocket>() || entry.is::<UdpSocket>(),
            Kind::Messages => {
                entry.is::<FieldMap>()
                    || entry.is::<HostOutgoingRequest>()
                    || entry.is::<HostOutgoingResponse>()
            }
            // One that is finished lies in its request or response.
            Kind::Bodies => {
                let request = entry.downcast_ref::<HostOutgoingRequest>();
                let response = entry.downcast_ref::<HostOutgoingResponse>();
                entry.is::<HostOutgoingBody>()
                    || request.is_some_and(|request| request.body.is_some())
                    || response.is_some_and(|response| response.body.is_some())
            }
            Kind::Answers => {
                let future = entry.downcast_ref::<HostFutureIncomingResponse>();
                future.is_some_and(|future| !matches!(future, HostFutureIncomingResponse::Consumed))
                    || entry.is::<HostIncomingResponse>()
                    || entry.is::<HostIncomingBody>()
                    || entry.is::<HostFutureTrailers>()
            }
        }
    }
}

/// How many of each kind there may be by now: those that were counted last, and those that were made since. Counting looks
/// through a whole table, so it is done where that is too many.
#[derive(Debug, Default)]
pub(crate) struct Tally([usize; KINDS]);

/// Whether an instance holds as many as it may; else it is about to make one.
fn has_all(host: &mut Host, kind: Kind) -> bool {
    let at = kind as usize;
    if host.held.0[at] >= kind.most() {
        let table = host.ctx().table;
        let held = table.iter_mut().filter(|entry| kind.has(&**entry)).count();
        host.held.0[at] = held;
        if held >= kind.most() {
            host.nn.usage.hit(Limit::Resources);
            tracing::info!("the guest is refused more than {held} {}", kind.name());
            return true;
        }
    }
    host.held.0[at] += 1;
    false
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
    add_requests(linker)?;
    add_output(linker)?;
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

fn add_requests(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Sent = (
        Resource<HostOutgoingRequest>,
        Option<Resource<RequestOptions>>,
    );
    linker
        .instance(OUTGOING)?
        .func_wrap("handle", |mut store, (request, options): Sent| {
            let host = store.data_mut();
            if has_all(host, Kind::Answers) {
                return Ok((Err(messages::ErrorCode::ConnectionLimitReached),));
            }
            let mut http = host.http();
            Ok((match http.handle(request, options) {
                Ok(answer) => Ok(answer),
                Err(error) => Err(messages::Host::convert_error_code(&mut http, error)?),
            },))
        })
}

/// Each is a stream of its own, which may keep part of a line.
fn add_output(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .instance(STDOUT)?
        .func_wrap("get-stdout", |mut store, (): ()| {
            let host = store.data_mut();
            check(host, Kind::Streams)?;
            Ok((host.cli().get_stdout()?,))
        })?;
    linker
        .instance(STDERR)?
        .func_wrap("get-stderr", |mut store, (): ()| {
            let host = store.data_mut();
            check(host, Kind::Streams)?;
            Ok((host.cli().get_stderr()?,))
        })
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
                if has_all(host, Kind::Listings) {
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
            stream(store.data_mut(), |mut files| {
                files.read_via_stream(file, offset)
            })
        },
    )?;
    added.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store, (file, offset): (Resource<Descriptor>, u64)| {
            stream(store.data_mut(), |mut files| {
                files.write_via_stream(file, offset)
            })
        },
    )?;
    added.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store, (file,): (Resource<Descriptor>,)| {
            stream(store.data_mut(), |mut files| files.append_via_stream(file))
        },
    )
}

/// A stream of a file, unless an instance has all that it may.
fn stream<T>(
    host: &mut Host,
    open: impl FnOnce(WasiFilesystemCtxView<'_>) -> FsResult<T>,
) -> wasmtime::Result<(Result<T, files::ErrorCode>,)> {
    if has_all(host, Kind::Streams) {
        return Ok((Err(NO_MORE_FILES),));
    }
    let opened = open(host.filesystem());
    Ok((told(host, opened)?,))
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
            socket_of(store.data_mut(), |mut sockets| {
                sockets.create_tcp_socket(family)
            })
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
            socket_of(store.data_mut(), |mut sockets| {
                TcpSockets::accept(&mut sockets, socket)
            })
        },
    )?;
    linker.instance(LOOKUP)?.func_wrap_async(
        "resolve-addresses",
        |mut store, (network, name): (Resource<Network>, String)| {
            Box::new(async move {
                if name.len() > LONGEST_NAME {
                    return Ok((Err(network::ErrorCode::InvalidArgument),));
                }
                // A lookup is a thread's work, which goes on though nobody waits for it: not before there is a thread.
                let _ = tokio::task::spawn_blocking(|| ()).await;
                let host = store.data_mut();
                let stream = host.sockets().resolve_addresses(network, name);
                Ok((told_of_socket(host, stream)?,))
            })
        },
    )
}

/// A socket, unless an instance has all that it may.
fn socket_of<T>(
    host: &mut Host,
    make: impl FnOnce(WasiSocketsCtxView<'_>) -> SocketResult<T>,
) -> wasmtime::Result<(Result<T, network::ErrorCode>,)> {
    if has_all(host, Kind::Sockets) {
        return Ok((Err(network::ErrorCode::NewSocketLimit),));
    }
    let made = make(host.sockets());
    Ok((told_of_socket(host, made)?,))
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
