//! The file in which a server's models, guests and grants are said: `infer.toml`.
//!
//! Every key is optional but those that name things. An unknown key is an error. Paths of models, guests and
//! folders are relative to the file's folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use infer_core::{Device, Error, ErrorKind, LoadOptions, Performance, Precision, Result};
use infer_models::{ModelRef, check_name, install::file_error, looks_like_path};
use serde::{Deserialize, Deserializer, de};

use crate::config::{DeviceChoice, DirGrant, Grants, HostGrant, Limits, Selection};
use crate::scheduler::{Batching, Priorities, Scheduling};
use crate::serve::config::{GuestConfig, ModelConfig};
use crate::values;

/// What a file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ServeFile {
    /// Where it listens and how it serves.
    pub server: ServerTable,
    /// Models by name.
    pub model: BTreeMap<String, ModelTable>,
    /// Guests by name.
    pub guest: BTreeMap<String, GuestTable>,
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ServerTable {
    /// The address of HTTP.
    #[serde(deserialize_with = "address")]
    pub http: Option<SocketAddr>,
    /// The address of gRPC.
    #[serde(deserialize_with = "address")]
    pub grpc: Option<SocketAddr>,
    /// The address of metrics.
    #[serde(deserialize_with = "address")]
    pub metrics: Option<SocketAddr>,
    /// A certificate's file.
    pub tls_cert: Option<PathBuf>,
    /// Its key's file.
    pub tls_key: Option<PathBuf>,
    /// Whether requests may load and unload models.
    pub allow_model_control: Option<bool>,
    /// The file of the token that such requests carry.
    pub admin_token: Option<PathBuf>,
    /// Whether it starts without its models.
    pub lazy: Option<bool>,
    /// How long requests in flight may take when it stops.
    #[serde(deserialize_with = "any_duration")]
    pub grace: Option<Duration>,
    /// How long connections are still taken when it stops.
    #[serde(deserialize_with = "any_duration")]
    pub drain: Option<Duration>,
    /// The largest body.
    #[serde(deserialize_with = "size")]
    pub max_body: Option<u64>,
    /// Connections at one time.
    pub max_connections: Option<NonZeroUsize>,
    /// How long a request to a model may take.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Option<Duration>,
    /// Whether each request gets a line in the log.
    pub access_log: Option<bool>,
    /// Where traces are sent.
    pub otlp: Option<String>,
}

/// `[model.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelTable {
    #[serde(rename = "ref")]
    reference: String,
    backend: Option<String>,
    #[serde(default, deserialize_with = "device")]
    device: Option<DeviceChoice>,
    #[serde(default)]
    strict_device: bool,
    #[serde(default, deserialize_with = "precision")]
    precision: Option<Precision>,
    #[serde(default, deserialize_with = "threads")]
    threads: Option<NonZeroUsize>,
    streams: Option<NonZeroUsize>,
    #[serde(default, deserialize_with = "performance")]
    performance: Option<Performance>,
    #[serde(default, deserialize_with = "size")]
    max_device_memory: Option<u64>,
    max_batch: Option<NonZeroUsize>,
    #[serde(default, deserialize_with = "any_duration")]
    max_delay: Option<Duration>,
    queue: Option<usize>,
    priority_levels: Option<NonZeroU32>,
    default_priority: Option<NonZeroU32>,
    #[serde(default)]
    warm_up: bool,
}

/// `[guest.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestTable {
    wasm: PathBuf,
    #[serde(default)]
    allow_precompiled: bool,
    route: Option<String>,
    models: Option<Vec<String>>,
    priority: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "devices")]
    devices: Vec<Device>,
    #[serde(default)]
    allow_load: bool,
    #[serde(default, deserialize_with = "dirs")]
    dirs: Vec<DirGrant>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    net: bool,
    #[serde(default, deserialize_with = "hosts")]
    outgoing: Vec<HostGrant>,
    #[serde(default, deserialize_with = "duration")]
    timeout: Option<Duration>,
    fuel: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    max_memory: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    max_tensor_bytes: Option<u64>,
    max_handles: Option<u64>,
    max_instances: Option<NonZeroUsize>,
    max_waiting: Option<usize>,
}

impl ServeFile {
    /// Reads a file; paths in what is returned are relative to the current folder, or absolute.
    ///
    /// # Errors
    /// `NotFound` for a file that cannot be read, `InvalidArgument` for what is wrong in it, with the line.
    pub fn read(path: &Path) -> Result<ServeFile> {
        let text =
            std::fs::read_to_string(path).map_err(|error| file_error("read", path, error))?;
        let mut file: ServeFile = toml::from_str(&text).map_err(|error| {
            let message = format!("`{}` is no file of a server", path.display());
            Error::new(ErrorKind::InvalidArgument, message).with_source(error)
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let ServerTable {
            tls_cert,
            tls_key,
            admin_token,
            ..
        } = &mut file.server;
        let server = [tls_cert, tls_key, admin_token].into_iter().flatten();
        let guests = file.guest.values_mut().flat_map(|guest| {
            let dirs = guest.dirs.iter_mut().map(|dir| &mut dir.host);
            std::iter::once(&mut guest.wasm).chain(dirs)
        });
        for path in server.chain(guests) {
            *path = folder.join(&*path);
        }
        for model in file.model.values_mut() {
            let path = folder.join(&model.reference);
            // Of a path that is not there yet it may be made, see `lazy`.
            if path.exists() || looks_like_path(&model.reference) {
                model.reference = path.to_string_lossy().into_owned();
            }
        }
        Ok(file)
    }

    /// The models; `default` are the settings of those that say none.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad name, a default priority that is no level, and a delay without batches.
    pub fn models(&self, default: &Selection) -> Result<Vec<ModelConfig>> {
        let models = self.model.iter().map(|(name, table)| {
            check_name(name)?;
            Ok(ModelConfig {
                reference: ModelRef {
                    name: Some(name.clone()),
                    reference: table.reference.clone(),
                },
                selection: table.selection(name, default)?,
                warm_up: table.warm_up,
            })
        });
        models.collect()
    }

    /// The guests; `engine` is where models of their own run.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad name.
    pub fn guests(&self, engine: &Selection) -> Result<Vec<GuestConfig>> {
        let guests = self.guest.iter().map(|(name, table)| {
            check_name(name)?;
            Ok(table.config(name, engine))
        });
        guests.collect()
    }
}

impl ModelTable {
    fn priorities(&self, model: &str) -> Result<Option<Priorities>> {
        let priorities = self.priority_levels.map(Priorities::new);
        match (priorities, self.default_priority) {
            (None, None) => Ok(None),
            (Some(priorities), default) => {
                let default = default.unwrap_or(priorities.default);
                if default <= priorities.levels {
                    return Ok(Some(Priorities {
                        default,
                        ..priorities
                    }));
                }
                let levels = priorities.levels;
                Err(invalid(format!(
                    "model `{model}`: expected a `default-priority` of 1 to {levels} (`priority-levels`), got {default}"
                )))
            }
            (None, Some(_)) => Err(invalid(format!(
                "model `{model}`: expected `priority-levels` beside `default-priority`, got none"
            ))),
        }
    }

    fn batching(&self, model: &str, default: Option<Batching>) -> Result<Option<Batching>> {
        let batching = match self.max_batch {
            Some(max_batch) => Some(Batching {
                max_batch,
                max_delay: Duration::ZERO,
            }),
            None => default,
        };
        match (batching, self.max_delay) {
            (batching, None) => Ok(batching),
            (Some(batching), Some(max_delay)) => Ok(Some(Batching {
                max_delay,
                ..batching
            })),
            (None, Some(_)) => Err(invalid(format!(
                "model `{model}`: expected `max-batch` beside `max-delay`, got none"
            ))),
        }
    }

    fn selection(&self, name: &str, default: &Selection) -> Result<Selection> {
        let options = &default.options;
        Ok(Selection {
            backend: self
                .backend
                .clone()
                .or(default.backend.clone())
                .filter(|name| name != "auto"),
            device: self.device.unwrap_or(default.device),
            options: LoadOptions {
                precision: self.precision.unwrap_or(options.precision),
                threads: self.threads.or(options.threads),
                streams: self.streams.or(options.streams),
                performance: self.performance.or(options.performance),
                device_memory: self.max_device_memory.or(options.device_memory),
                cache: options.cache.clone(),
            },
            strict_device: self.strict_device || default.strict_device,
            reason: None,
            scheduling: Scheduling {
                batching: self.batching(name, default.scheduling.batching)?,
                queue: self.queue.unwrap_or(default.scheduling.queue),
                priorities: self.priorities(name)?,
            },
        })
    }
}

impl GuestTable {
    fn config(&self, name: &str, engine: &Selection) -> GuestConfig {
        let memory = self
            .max_memory
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        GuestConfig {
            name: name.to_owned(),
            path: self.wasm.clone(),
            allow_precompiled: self.allow_precompiled,
            route: self.route.clone().unwrap_or_else(|| format!("/{name}")),
            models: self.models.clone(),
            grants: Grants {
                dirs: self.dirs.clone(),
                env: self.env.clone().into_iter().collect(),
                network: self.net,
                outgoing: self.outgoing.clone(),
                load: self.allow_load,
                devices: match self.devices.is_empty() {
                    true => vec![Device::Cpu],
                    false => self.devices.clone(),
                },
                engine: engine.clone(),
                priority: self.priority,
            },
            limits: Limits {
                timeout: Some(self.timeout.unwrap_or(GuestConfig::TIMEOUT)),
                fuel: self.fuel,
                memory: memory.unwrap_or(GuestConfig::MEMORY),
                tensor_bytes: self.max_tensor_bytes.unwrap_or(GuestConfig::MEMORY as u64),
                handles: self.max_handles.unwrap_or(Limits::HANDLES),
            },
            concurrency: self.max_instances.unwrap_or(GuestConfig::CONCURRENCY),
            queue: self.max_waiting.unwrap_or(GuestConfig::QUEUE),
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// A value as people write it, by one of the parsers of `values`.
fn written<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> std::result::Result<T, String>,
) -> std::result::Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|expected| de::Error::custom(format!("{expected}, got `{text}`")))
}

fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Duration>, D::Error> {
    written(deserializer, values::parse_duration).map(Some)
}

fn any_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Duration>, D::Error> {
    written(deserializer, values::parse_any_duration).map(Some)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    written(deserializer, values::parse_size).map(Some)
}

fn address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<SocketAddr>, D::Error> {
    written(deserializer, values::parse_address).map(Some)
}

fn threads<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<NonZeroUsize>, D::Error> {
    let number = i64::deserialize(deserializer)?.to_string();
    let threads = values::parse_threads(&number);
    threads
        .map(Some)
        .map_err(|expected| de::Error::custom(format!("{expected}, got {number}")))
}

fn device<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<DeviceChoice>, D::Error> {
    written(deserializer, values::parse_device).map(Some)
}

fn precision<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Precision>, D::Error> {
    written(deserializer, values::parse_precision).map(Some)
}

fn performance<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Performance>, D::Error> {
    written(deserializer, values::parse_performance).map(Some)
}

/// Several values as people write them.
fn list<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> std::result::Result<T, String>,
) -> std::result::Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| {
        parse(text).map_err(|expected| de::Error::custom(format!("{expected}, got `{text}`")))
    });
    parsed.collect()
}

fn dirs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<DirGrant>, D::Error> {
    list(deserializer, values::parse_dir)
}

fn hosts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<HostGrant>, D::Error> {
    list(deserializer, values::parse_host)
}

fn devices<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Device>, D::Error> {
    list(deserializer, |text| match values::parse_device(text)? {
        DeviceChoice::Exactly(device) => Ok(device),
        DeviceChoice::Auto => Err("expected cpu, gpu, gpu:N or npu".to_owned()),
    })
}
