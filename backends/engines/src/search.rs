//! Where a backend looks for its engine's library, in order.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use infer_core::{Candidate, Candidates};

use crate::EngineStore;
use crate::cuda::CUDA_ENGINE;
use crate::manifest::RECORD;
use crate::places::{Places, entries};

/// An engine that is loaded at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeEngine {
    /// ONNX Runtime, for the processor or for CUDA.
    OnnxRuntime,
    /// OpenVINO's C library.
    OpenVino,
}

impl NativeEngine {
    /// The setting that names the library, for people.
    pub fn setting(self) -> &'static str {
        match self {
            NativeEngine::OnnxRuntime => "--ort-lib",
            NativeEngine::OpenVino => "--openvino-lib",
        }
    }

    /// The environment variable that names the library.
    pub fn variable(self) -> &'static str {
        match self {
            NativeEngine::OnnxRuntime => "ORT_DYLIB_PATH",
            NativeEngine::OpenVino => "INFER_OPENVINO_LIB",
        }
    }

    /// The library's file name without a version.
    fn library(self) -> &'static str {
        match self {
            NativeEngine::OnnxRuntime => "libonnxruntime.so",
            NativeEngine::OpenVino => "libopenvino_c.so",
        }
    }

    /// The names that the system's loader is asked for.
    fn system_names(self) -> &'static [&'static str] {
        match self {
            NativeEngine::OnnxRuntime => &["libonnxruntime.so.1"],
            NativeEngine::OpenVino => &["libopenvino_c.so.2641", "libopenvino_c.so"],
        }
    }

    /// The engines of the store that bring the library, best first; the driver of a GPU is there or not.
    fn installable(self, driver: Driver) -> &'static [&'static str] {
        match (self, driver) {
            (NativeEngine::OnnxRuntime, Driver::Present) => &[CUDA_ENGINE, "onnxruntime"],
            (NativeEngine::OnnxRuntime, Driver::Absent) => &["onnxruntime", CUDA_ENGINE],
            (NativeEngine::OpenVino, _) => &["openvino"],
        }
    }
}

/// Whether `libcuda.so.1`, which comes with NVIDIA's driver, can be found.
#[derive(Clone, Copy)]
enum Driver {
    Present,
    Absent,
}

/// The places where the engine's library may be, in the order in which to try them.
///
/// The setting, else the environment's variable, is exclusive: nothing stands in for it. Each may be a
/// file, a folder that holds the library, or a bare name for the system's loader. Then come the engines
/// of the store (the one for CUDA first where a driver is found) and what the system's loader finds.
/// Nothing is loaded here.
pub fn candidates(engine: NativeEngine, setting: Option<&Path>, store: &EngineStore) -> Candidates {
    candidates_at(engine, setting, store, &Places::here())
}

fn candidates_at(
    engine: NativeEngine,
    setting: Option<&Path>,
    store: &EngineStore,
    places: &Places<'_>,
) -> Candidates {
    let asked_for = match setting {
        Some(path) => Some((path.to_owned(), engine.setting())),
        None => places
            .set(engine.variable())
            .map(|value| (PathBuf::from(value), engine.variable())),
    };
    if let Some((path, origin)) = asked_for {
        return Candidates::from(vec![Candidate {
            path: library_at(engine, path),
            origin: origin.to_owned(),
            exclusive: true,
        }]);
    }
    let driver = match engine == NativeEngine::OnnxRuntime && places.loader_has("libcuda.so.1") {
        true => Driver::Present,
        false => Driver::Absent,
    };
    let candidate = |path: PathBuf, origin: &str| Candidate {
        path,
        origin: origin.to_owned(),
        exclusive: false,
    };
    let mut found = Candidates {
        absent: vec![
            format!("`{}` (not given)", engine.setting()),
            format!("`{}` (not set)", engine.variable()),
        ],
        places: Vec::new(),
    };
    for name in engine.installable(driver) {
        match store.library(name) {
            Some(path) => found.places.push(candidate(path, "installed")),
            None => {
                let folder = store.folder().join(name);
                let why = match folder.join(RECORD).metadata() {
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                        "permission denied"
                    }
                    _ => "not installed",
                };
                let absent = format!("`{}` ({why})", folder.display());
                found.absent.push(absent);
            }
        }
    }
    let system = engine.system_names().iter().map(PathBuf::from);
    let system = system.map(|path| candidate(path, "system"));
    found.places.extend(system);
    found
}

/// The library that a path means: itself, or the one in a folder. Where the folder holds none, the path
/// of the one that is missing, so that the error names it.
fn library_at(engine: NativeEngine, path: PathBuf) -> PathBuf {
    if !path.is_dir() {
        return path;
    }
    let plain = path.join(engine.library());
    if plain.exists() {
        return plain;
    }
    let versioned = format!("{}.", engine.library());
    let mut found = entries(&path);
    found.retain(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&versioned))
    });
    found.sort();
    found.pop().unwrap_or(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::places::tests::Machine;

    fn shown(machine: &Machine, engine: NativeEngine, setting: Option<&str>) -> Vec<String> {
        let root = machine.folder.path();
        let store = EngineStore::at(root.join("engines"));
        let setting = setting.map(|path| root.join(path));
        let found =
            machine.with(|places| candidates_at(engine, setting.as_deref(), &store, places));
        let show = |candidate: &Candidate| {
            let path = candidate.path.strip_prefix(root).unwrap_or(&candidate.path);
            let only = if candidate.exclusive { " only" } else { "" };
            format!("{} {}{only}", candidate.origin, path.display())
        };
        found.places.iter().map(show).collect()
    }

    fn install(machine: &Machine, name: &str) {
        let folder = machine.folder.path().join("engines").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("libonnxruntime.so"), "").unwrap();
        let record = format!("name = \"{name}\"\nversion = \"1\"\nwheels = []\n[links]\n");
        std::fs::write(folder.join("engine.toml"), record).unwrap();
    }

    #[test]
    fn the_order_is_setting_environment_installed_system() {
        use NativeEngine::{OnnxRuntime, OpenVino};
        let machine = Machine::new(&[], &[]);
        assert_eq!(
            shown(&machine, OnnxRuntime, None),
            ["system libonnxruntime.so.1"]
        );
        assert_eq!(
            shown(&machine, OpenVino, None),
            ["system libopenvino_c.so.2641", "system libopenvino_c.so"]
        );
        install(&machine, "onnxruntime");
        assert_eq!(
            shown(&machine, OnnxRuntime, None),
            [
                "installed engines/onnxruntime/libonnxruntime.so",
                "system libonnxruntime.so.1"
            ]
        );
        assert_eq!(
            shown(&machine, OnnxRuntime, Some("x/libmine.so")),
            ["--ort-lib x/libmine.so only"]
        );
        let machine = Machine::new(
            &["a/libopenvino_c.so.2640", "a/libopenvino_c.so.2641"],
            &[("INFER_OPENVINO_LIB", "ROOT/a"), ("ORT_DYLIB_PATH", "")],
        );
        assert_eq!(
            shown(&machine, OpenVino, None),
            ["INFER_OPENVINO_LIB a/libopenvino_c.so.2641 only"]
        );
        assert_eq!(
            shown(&machine, OnnxRuntime, None),
            ["system libonnxruntime.so.1"],
            "an empty variable says nothing"
        );
        assert_eq!(
            shown(&machine, OnnxRuntime, Some("a")),
            ["--ort-lib a/libonnxruntime.so only"],
            "the error names what is missing"
        );
    }

    #[test]
    fn every_place_is_named_where_nothing_is_installed() {
        let machine = Machine::new(&[], &[]);
        let root = machine.folder.path();
        let store = EngineStore::at(root.join("engines"));
        let named = |engine| {
            let found = machine.with(|places| candidates_at(engine, None, &store, places));
            found.looked_for().replace(&*root.to_string_lossy(), "ROOT")
        };
        assert_eq!(
            named(NativeEngine::OnnxRuntime),
            "`--ort-lib` (not given), `ORT_DYLIB_PATH` (not set), `ROOT/engines/onnxruntime` (not installed), \
             `ROOT/engines/onnxruntime-cuda` (not installed), `libonnxruntime.so.1` (system)"
        );
        assert_eq!(
            named(NativeEngine::OpenVino),
            "`--openvino-lib` (not given), `INFER_OPENVINO_LIB` (not set), `ROOT/engines/openvino` (not installed), \
             `libopenvino_c.so.2641` (system), `libopenvino_c.so` (system)"
        );
    }

    #[test]
    fn the_engine_for_cuda_is_first_where_a_driver_is() {
        let places = |machine: &Machine| {
            let shown = shown(machine, NativeEngine::OnnxRuntime, None);
            shown
                .iter()
                .filter_map(|line| Some(line.strip_prefix("installed engines/")?.to_owned()))
                .collect::<Vec<String>>()
        };
        let without = Machine::new(&[], &[]);
        install(&without, "onnxruntime-cuda");
        assert_eq!(places(&without), ["onnxruntime-cuda/libonnxruntime.so"]);
        install(&without, "onnxruntime");
        assert_eq!(places(&without)[0], "onnxruntime/libonnxruntime.so");
        let with = Machine::new(&["usr/lib64/libcuda.so.1"], &[]);
        install(&with, "onnxruntime");
        install(&with, "onnxruntime-cuda");
        assert_eq!(places(&with)[0], "onnxruntime-cuda/libonnxruntime.so");
        assert_eq!(places(&with).len(), 2);
    }
}
