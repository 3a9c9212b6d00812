//! Folders of this machine in which libraries may lie: those of the system's loader, and those of Pythons.
//!
//! No program is run to find them, since `python3` in `PATH` may be anything and starts slowly, and every
//! start of infer looks here. A relative path in a variable is passed over: what the current folder holds
//! is never loaded.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Where the loader looks without a cache.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What the folders depend on; a test makes its own.
pub(crate) struct Places<'a> {
    /// The environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The root of the file system.
    pub(crate) root: PathBuf,
}

impl Places<'static> {
    /// Those of this process and machine.
    pub(crate) fn here() -> Places<'static> {
        Places {
            variable: &|name| std::env::var_os(name),
            root: PathBuf::from("/"),
        }
    }
}

impl Places<'_> {
    /// A variable that is set and not empty.
    pub(crate) fn set(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// Whether the system's loader finds a library of this name.
    pub(crate) fn loader_has(&self, library: &str) -> bool {
        self.loader_folders()
            .iter()
            .any(|folder| folder.join(library).exists())
    }

    /// The folders of the system's loader: `LD_LIBRARY_PATH`, its cache, its own.
    pub(crate) fn loader_folders(&self) -> Vec<PathBuf> {
        let mut folders = self.absolute_paths("LD_LIBRARY_PATH");
        let cache = std::fs::read(self.below_root(LOADER_CACHE)).unwrap_or_default();
        folders.extend(
            cached_folders(&cache)
                .iter()
                .map(|path| self.below_root(path)),
        );
        folders.extend(SYSTEM_FOLDERS.map(|path| self.below_root(path)));
        distinct(folders)
    }

    /// The folders of CUDA's own installer, which its loader need not know.
    pub(crate) fn toolkit_folders(&self) -> Vec<PathBuf> {
        let mut toolkits: Vec<PathBuf> = entries(&self.below_root("/usr/local"))
            .into_iter()
            .filter(|path| {
                file_name(path).starts_with("cuda-") || file_name(path).as_bytes() == b"cuda"
            })
            .collect();
        toolkits.sort();
        // `cuda` is the one that the machine's owner chose; then the newest.
        let last = toolkits
            .iter()
            .position(|path| file_name(path).as_bytes() == b"cuda");
        let mut ordered: Vec<PathBuf> = last
            .map(|index| toolkits.remove(index))
            .into_iter()
            .collect();
        ordered.extend(toolkits.into_iter().rev());
        ordered
            .iter()
            .flat_map(|path| [path.join("lib64"), path.join("targets/x86_64-linux/lib")])
            .collect()
    }

    /// The folders that NVIDIA's wheels put libraries in, of the Pythons that are likely to be used: an
    /// active environment, those in `PATH`, the user's own, pyenv's, the system's.
    pub(crate) fn python_folders(&self) -> Vec<PathBuf> {
        let packages = self.python_prefixes().into_iter().flat_map(|prefix| {
            let pythons = sorted(entries(&prefix.join("lib")));
            let pythons = pythons
                .into_iter()
                .rev()
                .filter(|path| file_name(path).starts_with("python3"));
            pythons.flat_map(|path| [path.join("site-packages"), path.join("dist-packages")])
        });
        let libraries = packages.flat_map(|packages| {
            sorted(entries(&packages.join("nvidia")))
                .into_iter()
                .map(|path| path.join("lib"))
        });
        distinct(libraries.filter(|path| path.is_dir()).collect())
    }

    /// Folders with `lib/python3*` in them.
    fn python_prefixes(&self) -> Vec<PathBuf> {
        let mut prefixes = self.absolute_paths("VIRTUAL_ENV");
        prefixes.extend(self.absolute_paths("CONDA_PREFIX"));
        for folder in self.absolute_paths("PATH") {
            let python = folder.join("python3");
            if python.exists() {
                // First as it stands, which is where a virtual environment's packages are.
                prefixes.extend(folder.parent().map(Path::to_owned));
                let followed = python.canonicalize().ok();
                prefixes.extend(
                    followed.and_then(|python| Some(python.parent()?.parent()?.to_owned())),
                );
            }
        }
        let home = self.absolute_paths("HOME");
        prefixes.extend(home.iter().map(|home| home.join(".local")));
        let mut pyenv = self.absolute_paths("PYENV_ROOT");
        pyenv.extend(home.iter().map(|home| home.join(".pyenv")));
        for root in pyenv {
            prefixes.extend(sorted(entries(&root.join("versions"))).into_iter().rev());
        }
        prefixes.extend(["/usr/local", "/usr"].map(|path| self.below_root(path)));
        distinct(prefixes)
    }

    /// The absolute paths of a variable that lists paths.
    fn absolute_paths(&self, variable: &str) -> Vec<PathBuf> {
        let value = self.set(variable).unwrap_or_default();
        std::env::split_paths(&value)
            .filter(|path| path.is_absolute())
            .collect()
    }

    fn below_root(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// The folders of the libraries in the loader's cache. Its texts end with a zero byte; those that start
/// with a slash are paths.
fn cached_folders(cache: &[u8]) -> Vec<PathBuf> {
    let texts = cache.split(|byte| *byte == 0);
    let paths = texts.filter(|text| text.starts_with(b"/"));
    let folders = paths.filter_map(|path| Path::new(OsStr::from_bytes(path)).parent());
    distinct(folders.map(Path::to_owned).collect())
}

/// The paths in a folder; none where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths
}

/// The paths, each once, in order.
pub(crate) fn distinct(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = std::collections::HashSet::new();
    paths
        .into_iter()
        .filter(|path| seen.insert(path.clone()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use super::*;
    use std::collections::HashMap;
    use tempfile::TempDir;

    /// A machine in a folder: files, made empty, and variables, in whose values `ROOT` is the folder.
    pub(crate) struct Machine {
        pub(crate) folder: TempDir,
        variables: HashMap<String, String>,
    }

    impl Machine {
        pub(crate) fn new(files: &[&str], variables: &[(&str, &str)]) -> Machine {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().to_str().unwrap().to_owned();
            for file in files {
                let path = folder.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.replace("ROOT", &root)))
                .collect();
            Machine { folder, variables }
        }

        pub(crate) fn with<T>(&self, act: impl FnOnce(&Places<'_>) -> T) -> T {
            let variable = |name: &str| self.variables.get(name).map(OsString::from);
            act(&Places {
                variable: &variable,
                root: self.folder.path().to_owned(),
            })
        }

        /// Paths as they stand below the machine's root.
        pub(crate) fn relative(&self, paths: &[PathBuf]) -> Vec<String> {
            let below = paths
                .iter()
                .filter_map(|path| path.strip_prefix(self.folder.path()).ok());
            below.map(|path| path.display().to_string()).collect()
        }
    }

    #[test]
    fn the_loader_cache_gives_folders() {
        let cache = b"glibc-ld.so.cache1.1\0\0\x03\0libcuda.so.1\0/opt/driver/libcuda.so.1\0libz.so.1\0/opt/driver/libz.so.1\0/usr/z/libz.so\0";
        let folders = cached_folders(cache);
        assert_eq!(
            folders,
            [Path::new("/opt/driver"), Path::new("/usr/z")],
            "{folders:?}"
        );
        assert!(cached_folders(b"").is_empty());
    }

    #[test]
    fn the_loader_finds_the_driver() {
        let machine = Machine::new(&["opt/driver/libcuda.so.1"], &[]);
        assert!(!machine.with(|places| places.loader_has("libcuda.so.1")));
        std::fs::create_dir(machine.folder.path().join("etc")).unwrap();
        let cache = b"x\0libcuda.so.1\0/opt/driver/libcuda.so.1\0";
        std::fs::write(machine.folder.path().join("etc/ld.so.cache"), cache).unwrap();
        assert!(machine.with(|places| places.loader_has("libcuda.so.1")));
        let machine = Machine::new(
            &["here/libcuda.so.1"],
            &[("LD_LIBRARY_PATH", "relative:ROOT/here")],
        );
        assert!(machine.with(|places| places.loader_has("libcuda.so.1")));
    }

    #[test]
    fn pythons_in_order() {
        let machine = Machine::new(
            &[
                "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcudart.so.13",
                "real/bin/python3",
                "real/lib/python3.13/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
                "home/.pyenv/versions/3.11.7/lib/python3.11/site-packages/nvidia/cu13/lib/x",
                "usr/lib/python3/dist-packages/nvidia/cu13/lib/x",
                "usr/lib/python3/dist-packages/nvidia/without/x",
            ],
            &[
                ("VIRTUAL_ENV", "ROOT/venv"),
                ("PATH", ".:ROOT/nothing:ROOT/real/bin"),
                ("HOME", "ROOT/home"),
            ],
        );
        let folders = machine.with(|places| places.python_folders());
        let expected = [
            "venv/lib/python3.12/site-packages/nvidia/cu13/lib",
            "real/lib/python3.13/site-packages/nvidia/cudnn/lib",
            "home/.pyenv/versions/3.11.7/lib/python3.11/site-packages/nvidia/cu13/lib",
            "usr/lib/python3/dist-packages/nvidia/cu13/lib",
        ];
        assert_eq!(machine.relative(&folders), expected);
    }

    #[test]
    fn toolkits_in_order() {
        let machine = Machine::new(
            &[
                "usr/local/cuda-12.8/lib64/x",
                "usr/local/cuda-13.0/lib64/x",
                "usr/local/cuda/lib64/x",
                "usr/local/cudagel/lib64/x",
            ],
            &[],
        );
        let folders = machine.with(|places| places.toolkit_folders());
        let lib64: Vec<String> = machine
            .relative(&folders)
            .into_iter()
            .filter(|path| path.ends_with("lib64"))
            .collect();
        assert_eq!(
            lib64,
            [
                "usr/local/cuda/lib64",
                "usr/local/cuda-13.0/lib64",
                "usr/local/cuda-12.8/lib64"
            ]
        );
    }
}
