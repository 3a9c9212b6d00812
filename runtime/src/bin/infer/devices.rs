//! `infer devices`: what each backend is, where it was found, and what it can run on.

use infer_core::run_engine;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::output;
use crate::status::Status;

#[derive(Serialize)]
struct Report {
    backend: &'static str,
    encodings: Vec<&'static str>,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Usable {
        version: String,
        location: String,
        devices: Vec<DeviceReport>,
        problems: Vec<String>,
    },
    Missing {
        error: String,
        hint: Option<String>,
    },
}

#[derive(Serialize)]
struct DeviceReport {
    device: String,
    description: String,
}

pub(crate) fn devices(args: &DevicesArgs) -> anyhow::Result<Status> {
    let reports: Vec<Report> = args
        .libraries
        .backends()?
        .all()
        .iter()
        .map(|backend| report(&**backend))
        .collect();
    match args.json {
        true => output::print_json(&reports)?,
        false => output::print(&reports.iter().map(text).collect::<String>())?,
    }
    Ok(Status::Success)
}

fn report(backend: &dyn infer_core::Backend) -> Report {
    let found = match run_engine(backend.name(), || backend.probe()) {
        Ok(probe) => Found::Usable {
            problems: probe.problems,
            version: probe.version,
            location: probe.location,
            devices: probe
                .devices
                .into_iter()
                .map(|info| DeviceReport {
                    device: info.device.to_string(),
                    description: info.description,
                })
                .collect(),
        },
        Err(error) => Found::Missing {
            error: error.report(),
            hint: error.hint().map(str::to_owned),
        },
    };
    let encodings = backend
        .encodings()
        .iter()
        .map(|encoding| encoding.name())
        .collect();
    Report {
        backend: backend.name(),
        encodings,
        found,
    }
}

fn text(report: &Report) -> String {
    let mut text = match &report.found {
        Found::Usable {
            version, location, ..
        } => format!("{} {version} ({location})\n", report.backend),
        Found::Missing { error, .. } => format!("{}: not usable: {error}\n", report.backend),
    };
    text.push_str(&format!("  reads {}\n", report.encodings.join(", ")));
    match &report.found {
        Found::Usable {
            devices, problems, ..
        } => {
            for device in devices {
                text.push_str(&format!("  {}: {}\n", device.device, device.description));
            }
            for problem in problems {
                text.push_str(&format!("  {problem}\n"));
            }
        }
        Found::Missing {
            hint: Some(hint), ..
        } => text.push_str(&format!("  hint: {hint}\n")),
        Found::Missing { hint: None, .. } => {}
    }
    text
}
