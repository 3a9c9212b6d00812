//! `infer inspect`: what a model takes and gives, or what a guest imports and needs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use infer::{Engine, EngineConfig, Guest, GuestDescription, Import, Kind, Registry, Role};
use infer_core::{Encoding, TensorInfo};
use infer_models::{Content, Head, Model as ModelFiles, ModelRef, ModelStore, OnnxHead};
use serde::Serialize;

use crate::args::InspectArgs;
use crate::output::{self, plain};
use crate::run::read_guest;
use crate::status::Status;
use crate::tune;

pub(crate) fn inspect(args: &InspectArgs) -> anyhow::Result<Status> {
    let path = Path::new(&args.subject);
    // A name that only a guest has is no model's, though there be no such file.
    let named = matches!(path.extension(), Some(end) if end == "wasm" || end == "cwasm");
    match named && !path.exists() || path.is_file() && is_guest(path)? {
        true => inspect_guest(path, args.json)?,
        false => inspect_model(args)?,
    }
    Ok(Status::Success)
}

pub(crate) fn is_guest(path: &Path) -> anyhow::Result<bool> {
    if matches!(Content::of_file(path)?, Content::Wasm) {
        return Ok(true);
    }
    Ok(wasmtime::Engine::detect_precompiled_file(path).is_ok_and(|kind| kind.is_some()))
}

#[derive(Serialize)]
struct GuestReport {
    guest: String,
    kind: &'static str,
    abi: Option<&'static str>,
    bytes: usize,
    imports: Vec<ImportReport>,
    runs_here: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    needs: Vec<&'static str>,
}

#[derive(Serialize)]
struct ImportReport {
    from: String,
    names: Vec<String>,
}

fn inspect_guest(path: &Path, json: bool) -> anyhow::Result<()> {
    let bytes = read_guest(path)?;
    let engine = Engine::new(&EngineConfig::default())?;
    let described = GuestDescription::of(&engine, &bytes)
        .with_context(|| format!("cannot inspect the guest `{}`", path.display()))?;
    let (role, problem) = match Guest::compile(&engine, &bytes) {
        Ok(guest) => (Some(role(guest.role())), None),
        Err(error) => (None, Some(error.report())),
    };
    let report = GuestReport {
        guest: path.display().to_string(),
        kind: match described.kind {
            Kind::Component => "component",
            Kind::Module => "core module",
            Kind::Compiled => "compiled code",
        },
        abi: abi(&described.imports),
        bytes: bytes.len(),
        needs: needs(&described.imports),
        imports: described
            .imports
            .into_iter()
            .map(|import| ImportReport {
                from: import.from,
                names: import.names,
            })
            .collect(),
        runs_here: problem.is_none(),
        role,
        problem,
    };
    match json {
        true => output::print_json(&report),
        false => output::print(&guest_text(&report)),
    }
}

/// What a guest is for, and the command that uses it.
fn role(role: Role) -> &'static str {
    match role {
        Role::Command => "command (infer run)",
        Role::Http => "handler of HTTP requests (infer serve)",
        Role::Model => "model (infer serve)",
    }
}

/// The ABI by which a guest does inference.
fn abi(imports: &[Import]) -> Option<&'static str> {
    imports
        .iter()
        .find_map(|import| match import.from.as_str() {
            "wasi_ephemeral_nn" => Some("wasi_ephemeral_nn (preview1)"),
            "wasi:nn/graph@0.2.0-rc-2024-10-28" => Some("wasi:nn@0.2.0-rc-2024-10-28"),
            _ => None,
        })
}

/// Options of `infer run` that open what a guest imports; it may well do without some.
fn needs(imports: &[Import]) -> Vec<&'static str> {
    let has = |part: &str, name: &str| {
        imports.iter().any(|import| {
            import.from.starts_with(part) && import.names.iter().any(|n| n.starts_with(name))
        })
    };
    let nn = |name: &str| {
        let mut interfaces = imports.iter().filter(|import| {
            import.from.starts_with("wasi:nn/graph") || import.from == "wasi_ephemeral_nn"
        });
        interfaces.any(|import| import.names.iter().any(|imported| imported == name))
    };
    let needs = [
        (
            nn("load-by-name") || nn("load_by_name"),
            "--model, for models by name",
        ),
        (nn("load"), "--allow-load, for models of its own"),
        (
            has("wasi:filesystem", "") || has("wasi_snapshot_preview1", "path_"),
            "--dir, for files",
        ),
        (
            has("wasi:cli/environment", "") || has("wasi_snapshot_preview1", "environ"),
            "--env, for variables",
        ),
        (
            has("wasi:sockets", "") || has("wasi_snapshot_preview1", "sock_"),
            "--net, for the network",
        ),
        (
            has("wasi:http/outgoing-handler", ""),
            "--outgoing, for HTTP requests of its own",
        ),
    ];
    needs
        .into_iter()
        .filter(|(needed, _)| *needed)
        .map(|(_, option)| option)
        .collect()
}

fn guest_text(report: &GuestReport) -> String {
    let mut text = format!(
        "{}: {}, {}\n",
        report.guest,
        report.kind,
        output::bytes(report.bytes as u64)
    );
    text.push_str(&format!(
        "inference by: {}\n",
        report.abi.unwrap_or("nothing")
    ));
    match &report.problem {
        None => text.push_str("runs here: yes\n"),
        Some(problem) => text.push_str(&format!("runs here: no: {problem}\n")),
    }
    if let Some(role) = report.role {
        text.push_str(&format!("role: {role}\n"));
    }
    text.push_str("may need:\n");
    for need in &report.needs {
        text.push_str(&format!("  {need}\n"));
    }
    text.push_str("imports:\n");
    for import in &report.imports {
        let names = import.names.join(", ");
        text.push_str(&format!("  {}: {}\n", plain(&import.from), plain(&names)));
    }
    text
}

#[derive(Serialize)]
struct ModelReport {
    name: String,
    description: Option<String>,
    license: Option<String>,
    source: Option<String>,
    encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ir_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    opsets: Vec<OpsetReport>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<&'static str, String>,
    files: Vec<String>,
    bytes: u64,
    backend: &'static str,
    device: String,
    precision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<usize>,
    elsewhere: Vec<String>,
    inputs: Vec<TensorReport>,
    outputs: Vec<TensorReport>,
}

#[derive(Serialize)]
struct OpsetReport {
    domain: String,
    version: u64,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    dtype: String,
    dimensions: Vec<Option<usize>>,
    #[serde(skip)]
    shown: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn inspect_model(args: &InspectArgs) -> anyhow::Result<()> {
    let reference: ModelRef = args.subject.parse()?;
    let report = model_report(&reference, args)
        .with_context(|| format!("cannot inspect the model `{reference}`"))?;
    match args.json {
        true => output::print_json(&report),
        false => output::print(&model_text(&report)),
    }
}

fn model_report(reference: &ModelRef, args: &InspectArgs) -> anyhow::Result<ModelReport> {
    let files = reference.open(&ModelStore::from_environment()?)?;
    let (backends, usual) = (args.selection.backends()?, args.selection.selection()?);
    let tuned = args.selection.tuned()?;
    let selection = tune::selection(tuned.as_ref(), &usual, (&files, &backends));
    let model = infer::open_model(&backends, &files, &selection, &mut Registry::default())?;
    let head = match files.encoding {
        Encoding::Onnx => Some(OnnxHead::read(&files.files[0])?),
        _ => None,
    };
    let details = match files.encoding {
        Encoding::Onnx => Vec::new(),
        _ => Head::read(&files)?.facts,
    };
    let (signature, placement) = (model.signature(), model.placement());
    let opsets = head.iter().flat_map(|head| &head.opsets);
    Ok(ModelReport {
        name: files.name.clone(),
        description: files.manifest.description.clone(),
        license: files.manifest.license.clone(),
        source: files.manifest.source.clone(),
        encoding: files.encoding.name(),
        ir_version: head.as_ref().map(|head| head.ir_version),
        producer: head
            .as_ref()
            .map(|head| head.producer.clone())
            .filter(|producer| !producer.is_empty()),
        opsets: opsets
            .map(|(domain, version)| OpsetReport {
                domain: domain_name(domain),
                version: *version,
            })
            .collect(),
        details: details.into_iter().collect(),
        files: files
            .all_files()?
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        bytes: files.bytes()?,
        backend: model.backend(),
        device: placement.device.to_string(),
        precision: placement.precision.to_string(),
        nodes: placement.nodes,
        elsewhere: placement
            .elsewhere
            .iter()
            .map(|(node, device)| format!("{node} on {device}"))
            .collect(),
        inputs: signature
            .inputs
            .iter()
            .map(|info| tensor(info, input_note(&files, info)))
            .collect(),
        outputs: signature
            .outputs
            .iter()
            .map(|info| Ok(tensor(info, output_note(&files, info)?)))
            .collect::<anyhow::Result<_>>()?,
    })
}

fn domain_name(domain: &str) -> String {
    if domain.is_empty() {
        "ai.onnx".to_owned()
    } else {
        domain.to_owned()
    }
}

fn tensor(info: &TensorInfo, note: Option<String>) -> TensorReport {
    TensorReport {
        name: info.name.clone(),
        dtype: info.dtype.to_string(),
        dimensions: info.dimensions.clone(),
        shown: info.to_string(),
        note,
    }
}

fn input_note(files: &ModelFiles, info: &TensorInfo) -> Option<String> {
    let image = files.manifest.image(&info.name)?;
    Some(format!(
        "a picture of {}x{} pixels",
        image.width, image.height
    ))
}

fn output_note(files: &ModelFiles, info: &TensorInfo) -> anyhow::Result<Option<String>> {
    Ok(files
        .labels(&info.name)?
        .map(|labels| format!("{} labels", labels.len())))
}

fn model_text(report: &ModelReport) -> String {
    let mut text = format!("{}: {}", report.name, report.encoding);
    for opset in &report.opsets {
        text.push_str(&format!(", opset {} {}", opset.domain, opset.version));
    }
    text.push_str(&format!(", {}\n", output::bytes(report.bytes)));
    let facts = [
        ("about", report.description.as_deref()),
        ("licence", report.license.as_deref()),
        ("source", report.source.as_deref()),
        ("written by", report.producer.as_deref()),
    ];
    for (label, fact) in facts {
        if let Some(fact) = fact {
            text.push_str(&format!("{label}: {}\n", plain(fact)));
        }
    }
    for (label, fact) in &report.details {
        text.push_str(&format!("{label}: {}\n", plain(fact)));
    }
    text.push_str(&format!(
        "runs on: {} on {}, {}",
        report.backend, report.device, report.precision
    ));
    if let Some(nodes) = report.nodes {
        let s = if nodes == 1 { "" } else { "s" };
        text.push_str(&format!(", {nodes} node{s}"));
    }
    text.push('\n');
    for node in &report.elsewhere {
        text.push_str(&format!("  but {node}\n"));
    }
    for (title, tensors) in [("inputs", &report.inputs), ("outputs", &report.outputs)] {
        text.push_str(&format!("{title}:\n"));
        for tensor in tensors {
            let note = tensor
                .note
                .as_ref()
                .map(|note| format!(" ({note})"))
                .unwrap_or_default();
            text.push_str(&format!(
                "  {}: {}{note}\n",
                plain(&tensor.name),
                tensor.shown
            ));
        }
    }
    for file in &report.files {
        text.push_str(&format!("file: {file}\n"));
    }
    text
}
