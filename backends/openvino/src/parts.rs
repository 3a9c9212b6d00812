//! The engine's plugins and frontends: libraries of their own beside the one that is loaded, so that any of them may
//! be missing. The engine does not say so: without a plugin it has no such device, without a frontend it takes a
//! model for broken.

use std::fmt;
use std::path::Path;

use infer_core::{Device, Encoding};

use crate::library::Engine;

/// A plugin or frontend that is missing.
#[derive(Debug)]
pub(crate) struct Missing<'a> {
    part: &'static Part,
    folder: &'a Path,
}

#[derive(Debug)]
struct Part {
    /// The name of the library's file, to which a version may be added.
    library: &'static str,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    /// For devices such as this one.
    Runs(Device),
    Reads(Encoding),
}

const PARTS: &[Part] = &[
    Part {
        library: "libopenvino_intel_cpu_plugin.so",
        purpose: Purpose::Runs(Device::Cpu),
    },
    Part {
        library: "libopenvino_intel_gpu_plugin.so",
        purpose: Purpose::Runs(Device::Gpu(0)),
    },
    Part {
        library: "libopenvino_intel_npu_plugin.so",
        purpose: Purpose::Runs(Device::Npu),
    },
    Part {
        library: "libopenvino_ir_frontend.so",
        purpose: Purpose::Reads(Encoding::OpenVino),
    },
    Part {
        library: "libopenvino_onnx_frontend.so",
        purpose: Purpose::Reads(Encoding::Onnx),
    },
    Part {
        library: "libopenvino_tensorflow_frontend.so",
        purpose: Purpose::Reads(Encoding::TensorFlow),
    },
    Part {
        library: "libopenvino_tensorflow_lite_frontend.so",
        purpose: Purpose::Reads(Encoding::TensorFlowLite),
    },
];

/// What is missing beside the engine's library; nothing where its folder is not known, because the system's loader
/// found it.
pub(crate) fn missing(engine: &Engine) -> impl Iterator<Item = Missing<'_>> {
    missing_in(engine.path.parent())
}

fn missing_in(folder: Option<&Path>) -> impl Iterator<Item = Missing<'_>> {
    let folder = folder.filter(|folder| folder.is_absolute());
    folder.into_iter().flat_map(|folder| {
        let files = names_in(folder);
        PARTS
            .iter()
            .filter(move |part| !files.iter().any(|file| file.starts_with(part.library)))
            .map(move |part| Missing { part, folder })
    })
}

/// The files of the folder, and of those inside of it that packages of Linux put plugins into.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = |folder: &Path| {
        let entries = folder.read_dir().into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect::<Vec<String>>()
    };
    let mut names = entries(folder);
    let inner: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with("openvino"))
        .flat_map(|name| entries(&folder.join(name)))
        .collect();
    names.extend(inner);
    names
}

impl Missing<'_> {
    /// Whether devices of this kind need it.
    pub(crate) fn is_for(&self, device: Device) -> bool {
        match self.part.purpose {
            Purpose::Runs(of) => std::mem::discriminant(&of) == std::mem::discriminant(&device),
            Purpose::Reads(_) => false,
        }
    }

    /// Whether models of this encoding need it.
    pub(crate) fn reads(&self, encoding: Encoding) -> bool {
        matches!(self.part.purpose, Purpose::Reads(of) if of == encoding)
    }
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part.purpose {
            Purpose::Runs(Device::Cpu) => write!(f, "it cannot use the processor")?,
            Purpose::Runs(Device::Gpu(_)) => write!(f, "it cannot use a GPU")?,
            Purpose::Runs(Device::Npu) => write!(f, "it cannot use an NPU")?,
            Purpose::Reads(encoding) => write!(f, "it cannot read models of encoding {encoding}")?,
        }
        let folder = self.folder.display();
        write!(f, ": `{}` is missing in `{folder}`", self.part.library)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_part_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let names = || -> Vec<&str> {
            missing_in(Some(folder.path()))
                .map(|missing| missing.part.library)
                .collect()
        };
        assert_eq!(names().len(), PARTS.len());
        for part in PARTS {
            let file = format!("{}.2641", part.library);
            std::fs::write(folder.path().join(&file), "").unwrap();
            assert!(!names().contains(&part.library), "{file}");
        }
        let moved = "libopenvino_intel_cpu_plugin.so.2641";
        std::fs::create_dir(folder.path().join("openvino-2026.4.1")).unwrap();
        std::fs::rename(
            folder.path().join(moved),
            folder.path().join("openvino-2026.4.1").join(moved),
        )
        .unwrap();
        assert_eq!(names(), Vec::<&str>::new(), "in a folder of plugins");
        assert_eq!(missing_in(Some(Path::new(""))).count(), 0, "a bare name");
    }
}
