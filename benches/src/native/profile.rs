//! Where nodes ran, by the engine's own profile of a run: what was executed, not what was planned.
//!
//! The engine writes a file of events. Each node that ran has one of category `Node`, with its operator and the
//! execution provider that ran it. The engine goes on changing the graph after it recorded which provider gets which
//! node (it fuses nodes and adds copies), so counts differ from that record; [`Profile::check`] compares what may not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};
use infer_core::{Device, Placement, Tensor};
use infer_onnxruntime::OnnxRuntime;
use serde::Deserialize;

use super::{NativeModel, NativeOptions, session_builder};

/// The provider of the processor.
const CPU: &str = "CPUExecutionProvider";

/// The nodes that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// How many nodes of each operator each provider ran: provider, then operator.
    pub nodes: BTreeMap<String, BTreeMap<String, usize>>,
    /// How many nodes copy between the device and the host; they are none of the model's and not among `nodes`.
    pub copies: usize,
}

/// One event of the engine's file.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    op_name: Option<String>,
    provider: Option<String>,
    node_index: Option<serde_json::Value>,
}

impl Profile {
    /// Loads a model with the engine's profiling on, runs it, and reads the profile.
    ///
    /// # Errors
    /// As for [`NativeModel::open`] and [`NativeModel::bind`], and for a file that is no profile.
    pub fn of(
        engine: &OnnxRuntime,
        (model, options): (&Path, &NativeOptions),
        inputs: &[(String, Tensor)],
    ) -> anyhow::Result<Profile> {
        let folder = tempfile::tempdir()?;
        let builder = session_builder(engine, options)?;
        let builder = builder.with_profiling(folder.path().join("profile"));
        let mut builder = builder.map_err(|error| anyhow::anyhow!("{}", error.message()))?;
        let session = builder.commit_from_file(model)?;
        let mut model = NativeModel {
            session,
            device: options.device,
        };
        model.bind(inputs)?;
        let written = model.session.end_profiling()?;
        let bytes = std::fs::read(&written).with_context(|| format!("cannot read `{written}`"))?;
        Profile::parse(&bytes)
    }

    /// Reads the engine's file.
    ///
    /// # Errors
    /// For other bytes, and for a file without a node: nothing ran, or the engine has changed the format.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Profile> {
        let events: Vec<Event> = serde_json::from_slice(bytes).context("expected a profile")?;
        let (mut profile, mut seen) = (Profile::default(), BTreeSet::new());
        for Event { cat, name, args } in events {
            let (Some(operator), Some(provider)) = (args.op_name, args.provider) else {
                continue;
            };
            // Each run has its own event for the same node.
            let index = args.node_index.map(|index| index.to_string());
            if cat != "Node" || !seen.insert((name, index, provider.clone())) {
                continue;
            }
            match operator.as_str() {
                "MemcpyToHost" | "MemcpyFromHost" => profile.copies += 1,
                _ => {
                    let of_provider = profile.nodes.entry(provider).or_default();
                    *of_provider.entry(operator).or_default() += 1;
                }
            }
        }
        ensure!(
            !profile.nodes.is_empty(),
            "expected nodes in the engine's profile, got none"
        );
        Ok(profile)
    }

    /// How many nodes ran.
    pub fn all(&self) -> usize {
        self.nodes.values().flat_map(BTreeMap::values).sum()
    }

    /// How many nodes ran on a device, `device` being what providers other than the processor's ran on.
    pub fn nodes_on(&self, wanted: Device, device: Device) -> usize {
        let on = |provider: &String| device_of(provider, device) == wanted;
        let of_providers = self.nodes.iter().filter(|(provider, _)| on(provider));
        of_providers
            .map(|(_, nodes)| nodes.values().sum::<usize>())
            .sum()
    }

    /// Compares with what the engine recorded when it assigned the nodes, which is what `infer inspect` shows: nodes
    /// ran on the same devices, and only operators that the record has elsewhere ran elsewhere.
    ///
    /// # Errors
    /// Where they disagree, with both sides.
    pub fn check(&self, record: &Placement) -> anyhow::Result<()> {
        let device = record.device;
        let ran: BTreeSet<String> = self
            .nodes
            .keys()
            .map(|provider| device_of(provider, device).to_string())
            .collect();
        let mut assigned = BTreeSet::new();
        if record.nodes.is_none_or(|all| all > record.elsewhere.len()) {
            assigned.insert(device.to_string());
        }
        let elsewhere = record.elsewhere.iter();
        assigned.extend(elsewhere.map(|(_, device)| device.to_string()));
        ensure!(
            ran == assigned,
            "the engine recorded nodes on {assigned:?}, but its profile has nodes on {ran:?}"
        );
        let operators = self.nodes.iter();
        let ran_elsewhere = operators
            .filter(|(provider, _)| device_of(provider, device) != device)
            .flat_map(|(_, operators)| operators.keys());
        for operator in ran_elsewhere {
            ensure!(
                record
                    .elsewhere
                    .iter()
                    .any(|(node, _)| node.split(' ').next() == Some(operator)),
                "the profile has `{operator}` elsewhere than on {device}, the engine's record has not: {:?}",
                record.elsewhere
            );
        }
        Ok(())
    }
}

fn device_of(provider: &str, device: Device) -> Device {
    match provider {
        CPU => Device::Cpu,
        _ => device,
    }
}

#[cfg(test)]
mod tests {
    use infer_core::Arithmetic;

    use super::*;

    const GPU: Device = Device::Gpu(0);

    /// What the engine writes, shortened: two runs of a model that is split.
    fn profile() -> Profile {
        let node = |name: &str, operator: &str, provider: &str| {
            format!(
                r#"{{"cat": "Node", "name": "{name}_kernel_time", "dur": 3,
                     "args": {{"op_name": "{operator}", "provider": "{provider}", "node_index": "1"}}}}"#
            )
        };
        let run = [
            node("a", "Relu", "CUDAExecutionProvider"),
            node("copy", "MemcpyToHost", "CUDAExecutionProvider"),
            node("b", "Unique", CPU),
            node("c", "Mul", "CUDAExecutionProvider"),
            r#"{"cat": "Session", "name": "model_run", "args": {}}"#.to_owned(),
            r#"{"cat": "Kernel", "name": "relu", "args": {"op_name": "Relu", "stream": "7"}}"#
                .to_owned(),
        ]
        .join(",");
        Profile::parse(format!("[{run},{run}]").as_bytes()).expect("a profile")
    }

    fn record(nodes: usize, elsewhere: &[&str]) -> Placement {
        Placement {
            device: GPU,
            precision: Arithmetic::F32,
            nodes: Some(nodes),
            elsewhere: elsewhere
                .iter()
                .map(|node| ((*node).to_owned(), Device::Cpu))
                .collect(),
        }
    }

    #[test]
    fn each_node_counts_once() {
        let profile = profile();
        assert_eq!((profile.all(), profile.nodes_on(GPU, GPU)), (3, 2));
        assert_eq!(profile.nodes_on(Device::Cpu, GPU), 1);
        assert_eq!(profile.copies, 1);
        assert_eq!(profile.nodes[CPU]["Unique"], 1);
    }

    #[test]
    fn a_file_without_nodes_is_no_profile() {
        for file in ["[]", r#"[{"cat": "Session", "name": "model_run"}]"#, "{"] {
            Profile::parse(file.as_bytes()).expect_err(file);
        }
    }

    #[test]
    fn disagreement_with_the_record_is_an_error() {
        let cases = [
            (record(3, &["Unique u"]), None),
            (record(3, &[]), Some("recorded nodes on")),
            (record(1, &["Unique u"]), Some("recorded nodes on")),
            (record(3, &["Mul m"]), Some("has `Unique` elsewhere")),
        ];
        for (record, message) in cases {
            let checked = profile().check(&record).map_err(|error| error.to_string());
            match message {
                None => assert_eq!(checked, Ok(())),
                Some(message) => {
                    let error = checked.expect_err(message);
                    assert!(error.contains(message), "{error}");
                }
            }
        }
    }
}
