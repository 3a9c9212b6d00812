//! Where CUDA's libraries lie: the installed engine, the system, a Python's packages of NVIDIA.

use std::path::{Path, PathBuf};

use crate::EngineStore;
use crate::places::{Places, distinct};

/// The libraries of CUDA 13 and cuDNN 9 that ONNX Runtime's provider links or opens.
pub(crate) const LIBRARIES: [&str; 6] = [
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libnvrtc.so.13",
    "libcudnn.so.9",
];

/// The engine that brings CUDA's libraries.
pub(crate) const CUDA_ENGINE: &str = "onnxruntime-cuda";

/// The folders that hold some of CUDA's libraries, in the order in which to look: the installed engine's,
/// the system's (its loader's, then `/usr/local/cuda*`), those of Pythons with NVIDIA's packages.
///
/// Nothing is loaded and no program is run. The folders are absolute.
pub fn cuda_folders(store: &EngineStore) -> Vec<PathBuf> {
    let mut folders = vec![store.folder().join(CUDA_ENGINE)];
    folders.retain(|folder| holds_some(folder));
    folders.extend(folders_outside(&Places::here()));
    distinct(folders)
}

/// The folders outside of the engines' own that hold some of CUDA's libraries.
pub(crate) fn folders_outside(places: &Places<'_>) -> Vec<PathBuf> {
    let mut folders = places.loader_folders();
    folders.extend(places.toolkit_folders());
    folders.extend(places.python_folders());
    folders.retain(|folder| holds_some(folder));
    distinct(folders)
}

/// The folders outside of the engines' own that together hold all of CUDA's libraries, if they do.
pub(crate) fn usable_set(places: &Places<'_>) -> Option<Vec<PathBuf>> {
    let folders = folders_outside(places);
    let found = LIBRARIES.iter().map(|library| {
        folders
            .iter()
            .find(|folder| folder.join(library).is_file())
            .cloned()
    });
    Some(distinct(found.collect::<Option<Vec<PathBuf>>>()?))
}

fn holds_some(folder: &Path) -> bool {
    LIBRARIES
        .iter()
        .any(|library| folder.join(library).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::tests::Machine;

    const PACKAGES: &str = "usr/lib/python3/dist-packages/nvidia";

    fn machine(without: &str) -> Machine {
        let cuda = LIBRARIES
            .iter()
            .filter(|library| **library != without)
            .map(|library| match library.contains("cudnn") {
                true => format!("{PACKAGES}/cudnn/lib/{library}"),
                false => format!("usr/local/cuda/lib64/{library}"),
            });
        let files: Vec<String> = cuda.collect();
        Machine::new(
            &files.iter().map(String::as_str).collect::<Vec<&str>>(),
            &[],
        )
    }

    #[test]
    fn a_set_may_lie_in_several_folders() {
        let whole = machine("");
        let found = whole.with(usable_set).unwrap_or_default();
        let expected = ["usr/local/cuda/lib64", &format!("{PACKAGES}/cudnn/lib")];
        assert_eq!(whole.relative(&found), expected);
    }

    #[test]
    fn a_set_lacks_nothing() {
        for library in LIBRARIES {
            let machine = machine(library);
            assert_eq!(machine.with(usable_set), None, "{library}");
            assert!(!machine.with(folders_outside).is_empty());
        }
    }
}
