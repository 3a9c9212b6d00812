//! Installs a known engine: wheels by pip or from files, libraries and licences out of them, everything
//! recorded with its digest, then moved into place at once.
//!
//! Steps: done if it is there and right; take the engine's lock; bring and unpack each wheel in a private
//! folder beside the final one; make links; write the record; rename. Of what an interrupted run left,
//! wheels that are whole are used and all else is removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};
use infer_models::Package;
use infer_models::install::{
    check_digest, create_folder, file_error, lock, remove_folder, replace, sha256,
};
use infer_models::packages::Downloader;

use crate::EngineStore;
use crate::manifest::{EngineManifest, EnginePackage, RECORD, Record, RecordedFile, Role};
use crate::unpack::unpack;

/// Where the wheels come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The package index, by `python3` and its pip.
    Index,
    /// These files; neither Python nor network is used.
    Files(Vec<PathBuf>),
}

/// How far an installation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The engine was there already, and is right.
    Present,
    /// Another process installs or removes the same engine.
    Waiting,
    /// What will be brought; said once, before anything is.
    Needs {
        /// The wheels.
        packages: Vec<&'a Package>,
        /// Where CUDA's libraries lie already, if they were looked for and found.
        cuda: &'a [PathBuf],
    },
    /// A wheel comes.
    Downloading {
        /// The package's name.
        package: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A wheel's libraries and licences are unpacked.
    Unpacking {
        /// The package's name.
        package: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

type Report<'a> = &'a mut dyn FnMut(Progress<'_>);

/// One installation.
pub(crate) struct Installation<'a> {
    pub(crate) store: &'a EngineStore,
    pub(crate) manifest: &'a EngineManifest,
    pub(crate) origin: &'a Origin,
    /// The folders that hold CUDA's libraries already; none where they are not all there.
    pub(crate) cuda: Vec<PathBuf>,
}

impl Installation<'_> {
    /// Installs the engine, or finds that it is there already, and gives its folder.
    pub(crate) fn run(&self, progress: Report<'_>) -> Result<PathBuf> {
        check_platform(std::env::consts::ARCH, std::env::consts::OS)?;
        let wheels = self.wheels()?;
        let (name, store) = (&self.manifest.name, self.store.folder());
        let target = store.join(name);
        if self.is_right(&target) {
            progress(Progress::Present);
            return Ok(target);
        }
        create_folder(store)?;
        let _lock = lock(&self.store.lock_path(name), &mut || {
            progress(Progress::Waiting);
        })?;
        if self.is_right(&target) {
            progress(Progress::Present);
            return Ok(target);
        }
        let work = self.store.partial_path(name);
        let installed = self.make(&wheels, &work, &target, progress);
        let removed = remove_folder(&work);
        installed.and(removed).map(|()| target)
    }

    /// What must be in the engine's folder at least.
    fn needed(&self) -> impl Iterator<Item = &EnginePackage> {
        let with_cuda = self.cuda.is_empty();
        let packages = self.manifest.packages.iter();
        packages.filter(move |package| package.role == Role::Engine || with_cuda)
    }

    /// The packages to unpack, each with its file where the files are given.
    fn wheels(&self) -> Result<Vec<(&EnginePackage, Option<&Path>)>> {
        let Origin::Files(files) = self.origin else {
            return Ok(self.needed().map(|package| (package, None)).collect());
        };
        let mut wheels = Vec::new();
        for file in files {
            let package = self.package_of(file)?;
            if !wheels.iter().any(|(other, _)| *other == package) {
                wheels.push((package, Some(file.as_path())));
            }
        }
        let is_given = |package: &&EnginePackage| wheels.iter().any(|(given, _)| given == package);
        let missing: Vec<&EnginePackage> = self.needed().filter(|p| !is_given(p)).collect();
        match missing.is_empty() {
            true => Ok(wheels),
            false => Err(self.missing(&missing)),
        }
    }

    /// The package whose wheel this file is, by its name or, where it was renamed, its length. Its digest
    /// is checked before it is opened.
    fn package_of(&self, file: &Path) -> Result<&EnginePackage> {
        let data = file
            .metadata()
            .map_err(|error| file_error("read", file, error))?;
        let packages = &self.manifest.packages;
        let named = packages
            .iter()
            .find(|package| file.file_name() == Some(package.wheel.file.as_ref()));
        let found = named.or_else(|| {
            packages
                .iter()
                .find(|package| data.is_file() && package.wheel.bytes == data.len())
        });
        found.ok_or_else(|| self.not_wanted(file))
    }

    fn not_wanted(&self, file: &Path) -> Error {
        let wanted = self.manifest.packages.iter().map(|package| {
            let Package {
                name,
                version,
                file,
                ..
            } = &package.wheel;
            format!("`{file}` ({name} {version})")
        });
        let wanted: Vec<String> = wanted.collect();
        let which = if wanted.len() == 1 { "" } else { "one of " };
        let message = format!(
            "expected {which}{}, got `{}`",
            wanted.join(", "),
            file.display()
        );
        let engine = self.manifest.packages.first().into_iter();
        Error::new(ErrorKind::InvalidArgument, message).with_hint(elsewhere(engine))
    }

    fn missing(&self, packages: &[&EnginePackage]) -> Error {
        let name = &self.manifest.name;
        let files: Vec<String> = packages
            .iter()
            .map(|package| format!("`{}`", package.wheel.file))
            .collect();
        let message = format!(
            "engine `{name}` needs other wheels too: {}",
            files.join(", ")
        );
        let hint = elsewhere(packages.iter().copied());
        Error::new(ErrorKind::NotFound, message)
            .with_hint(format!("give every file after --from; {hint}"))
    }

    /// Whether everything is there with the right content.
    fn is_right(&self, target: &Path) -> bool {
        let Ok(record) = Record::read(target) else {
            return false;
        };
        let EngineManifest {
            name,
            version,
            links,
            ..
        } = self.manifest;
        let mut needed = self.needed();
        (&record.name, &record.version, &record.links) == (name, version, links)
            && needed.all(|package| record.wheels.contains(&package.wheel.sha256))
            && links
                .iter()
                .all(|(name, to)| fs::read_link(target.join(name)).is_ok_and(|is| is == *to))
            && record
                .files
                .iter()
                .all(|file| check_digest(&target.join(&file.path), &file.sha256, "").is_ok())
    }

    /// Makes everything in the private folder, then moves it to the target at once.
    fn make(
        &self,
        wheels: &[(&EnginePackage, Option<&Path>)],
        work: &Path,
        target: &Path,
        progress: Report<'_>,
    ) -> Result<()> {
        keep_only_packages(work)?;
        let made = work.join("made");
        create_folder(&made)?;
        progress(Progress::Needs {
            packages: wheels.iter().map(|(package, _)| &package.wheel).collect(),
            cuda: &self.cuda,
        });
        if *self.origin == Origin::Index {
            self.downloader(work).check_pip()?;
        }
        let mut names = Vec::new();
        for (package, file) in wheels {
            let wheel = self.bring(&package.wheel, *file, work, progress)?;
            let mut report = |done, total| {
                let package = &package.wheel.name;
                progress(Progress::Unpacking {
                    package,
                    done,
                    total,
                });
            };
            names.extend(unpack(&wheel, package, &made, &mut report)?);
        }
        self.finish(wheels, names, &made)?;
        replace(&made, target, &work.join("replaced"))
    }

    /// The wheel's path once it is there with the right digest.
    fn bring(
        &self,
        package: &Package,
        file: Option<&Path>,
        work: &Path,
        progress: Report<'_>,
    ) -> Result<PathBuf> {
        if let Some(file) = file {
            let Package {
                name,
                version,
                file: expected,
                sha256,
                ..
            } = package;
            let hint = format!("expected the wheel `{expected}` ({name} {version}), whole");
            check_digest(file, sha256, &hint)?;
            return Ok(file.to_owned());
        }
        let (name, total) = (package.name.as_str(), package.bytes);
        self.downloader(work).download(package, &mut |done| {
            progress(Progress::Downloading {
                package: name,
                done,
                total,
            });
        })
    }

    /// Makes the links and, last, the record.
    fn finish(
        &self,
        wheels: &[(&EnginePackage, Option<&Path>)],
        names: Vec<String>,
        made: &Path,
    ) -> Result<()> {
        let links = &self.manifest.links;
        for (name, to) in links {
            let path = made.join(name);
            if !made.join(to).is_file() {
                let message = format!("the packages hold no `{to}`, to which `{name}` leads");
                return Err(Error::new(ErrorKind::InvalidEncoding, message));
            }
            symlink(to, &path).map_err(|error| file_error("create", &path, error))?;
        }
        let record = Record {
            name: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            wheels: wheels
                .iter()
                .map(|(package, _)| package.wheel.sha256.clone())
                .collect(),
            links: links.clone(),
            files: names
                .into_iter()
                .map(|name| record_file(made, name))
                .collect::<Result<Vec<RecordedFile>>>()?,
        };
        let path = made.join(RECORD);
        fs::write(&path, record.text()).map_err(|error| file_error("write", &path, error))
    }

    fn downloader<'a>(&'a self, work: &'a Path) -> Downloader<'a> {
        Downloader {
            python: &self.store.python,
            folder: work,
        }
    }
}

fn record_file(folder: &Path, name: String) -> Result<RecordedFile> {
    let path = folder.join(&name);
    let data = path
        .metadata()
        .map_err(|error| file_error("read", &path, error))?;
    Ok(RecordedFile {
        bytes: data.len(),
        sha256: sha256(&path)?,
        path: name,
    })
}

/// Removes what an interrupted run left in the private folder, but for downloaded wheels.
fn keep_only_packages(work: &Path) -> Result<()> {
    for path in crate::places::entries(work) {
        if path.file_name() == Some("packages".as_ref()) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            remove_folder(&path)?;
        } else {
            fs::remove_file(&path).map_err(|error| file_error("remove", &path, error))?;
        }
    }
    Ok(())
}

/// How wheels are brought by a machine that has a network.
fn elsewhere<'a>(packages: impl Iterator<Item = &'a EnginePackage>) -> String {
    let commands = packages.map(|package| format!("`{}`", package.wheel.command()));
    let commands: Vec<String> = commands.collect();
    format!("on a machine with network: {}", commands.join("; "))
}

/// Fails where no wheels are known for this kind of machine.
fn check_platform(processor: &str, system: &str) -> Result<()> {
    if (processor, system) == ("x86_64", "linux") {
        return Ok(());
    }
    let message =
        format!("expected x86_64 Linux, for which engines are packaged, got {processor} {system}");
    Err(Error::new(ErrorKind::UnsupportedOperation, message).with_hint(
        "install the engine's library by other means, and name it in ORT_DYLIB_PATH or INFER_OPENVINO_LIB",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    const WHEEL: &str = "tiny-1.0-py3-none-any.whl";
    const CUDA_WHEEL: &str = "tiny_cuda-2.0-py3-none-any.whl";

    /// A folder with a store, wheels in place of the network, and the manifest of an engine of them.
    struct Place {
        folder: TempDir,
        manifest: EngineManifest,
        cuda: Vec<PathBuf>,
    }

    fn write_wheel(path: &Path, members: &[(&str, &str)]) {
        let mut writer = ZipWriter::new(fs::File::create(path).unwrap());
        for (name, text) in members {
            let options = SimpleFileOptions::default();
            writer.start_file(*name, options).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
    }

    fn package(role: Role, name: &str, version: &str, wheel: &Path) -> EnginePackage {
        EnginePackage {
            role,
            libraries: "tiny/libs".to_owned(),
            leave_out: Vec::new(),
            wheel: Package {
                name: name.to_owned(),
                version: version.to_owned(),
                file: wheel.file_name().unwrap().to_str().unwrap().to_owned(),
                bytes: wheel.metadata().unwrap().len(),
                sha256: sha256(wheel).unwrap(),
            },
        }
    }

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            let wheels = folder.path().join("wheels");
            fs::create_dir(&wheels).unwrap();
            let (wheel, cuda) = (wheels.join(WHEEL), wheels.join(CUDA_WHEEL));
            let tiny = [
                ("tiny/__init__.py", "no"),
                ("tiny/libs/libtiny.so.1.0", "library"),
                ("tiny/LICENSE", "free"),
            ];
            write_wheel(&wheel, &tiny);
            write_wheel(
                &cuda,
                &[("tiny/libs/libtinycuda.so.2", "cuda, a longer text")],
            );
            let packages = vec![
                package(Role::Engine, "tiny", "1.0", &wheel),
                package(Role::Cuda, "tiny-cuda", "2.0", &cuda),
            ];
            let manifest = EngineManifest {
                name: "tiny".to_owned(),
                version: "1.0".to_owned(),
                description: "an engine".to_owned(),
                license: "MIT".to_owned(),
                library: "libtiny.so".to_owned(),
                links: [("libtiny.so".to_owned(), "libtiny.so.1.0".to_owned())].into(),
                packages,
            };
            Place {
                cuda: vec![folder.path().join("elsewhere")],
                folder,
                manifest,
            }
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.folder.path().join(relative)
        }

        fn store(&self) -> EngineStore {
            let python = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../models/testdata/python-without-network"
            );
            EngineStore::at(self.path("engines")).with_python(python)
        }

        fn install(&self, origin: &Origin, progress: Report<'_>) -> Result<PathBuf> {
            let installation = Installation {
                store: &self.store(),
                manifest: &self.manifest,
                origin,
                cuda: self.cuda.clone(),
            };
            installation.run(progress)
        }

        fn install_from_index(&self) -> Result<PathBuf> {
            self.install(&Origin::Index, &mut |_| {})
        }

        fn install_from_files(&self, files: &[&str]) -> Result<PathBuf> {
            let files = files.iter().map(|file| self.path(file)).collect();
            self.install(&Origin::Files(files), &mut |_| {})
        }

        fn downloads(&self) -> usize {
            let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
            calls.lines().count()
        }

        /// The names in a folder, sorted.
        fn names(&self, folder: &str) -> Vec<String> {
            let entries = crate::places::entries(&self.path(folder)).into_iter();
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut names: Vec<String> = entries.map(name).collect();
            names.sort();
            names
        }
    }

    const INSTALLED: [&str; 4] = [
        "engine.toml",
        "libtiny.so",
        "libtiny.so.1.0",
        "tiny-LICENSE",
    ];

    #[test]
    fn installs_once_and_repairs() {
        let place = Place::new();
        let mut seen = Vec::new();
        let folder = place
            .install(&Origin::Index, &mut |progress| {
                seen.push(format!("{progress:?}"))
            })
            .unwrap();
        assert_eq!(place.names("engines/tiny"), INSTALLED);
        let library = folder.join("libtiny.so");
        assert_eq!(fs::read_to_string(&library).unwrap(), "library");
        assert!(seen[0].starts_with("Needs { packages: [Package { name: \"tiny\""));
        assert!(!seen[0].contains("tiny-cuda"), "{}", seen[0]);
        assert!(
            seen.contains(&"Unpacking { package: \"tiny\", done: 11, total: 11 }".to_owned()),
            "{seen:?}"
        );
        place.install_from_index().unwrap();
        assert_eq!(place.downloads(), 1, "the second time needs no network");

        type Harm = fn(&Path);
        let harms: [Harm; 5] = [
            |folder| fs::write(folder.join("libtiny.so.1.0"), "broken!").unwrap(),
            |folder| fs::remove_file(folder.join("libtiny.so")).unwrap(),
            |folder| fs::remove_file(folder.join("tiny-LICENSE")).unwrap(),
            |folder| fs::write(folder.join(RECORD), "name = ").unwrap(),
            |folder| fs::remove_file(folder.join(RECORD)).unwrap(),
        ];
        for (index, harm) in harms.into_iter().enumerate() {
            harm(&folder);
            place.install_from_index().unwrap();
            assert_eq!(place.downloads(), index + 2, "harm {index} was seen");
            assert_eq!(fs::read_to_string(&library).unwrap(), "library");
            assert_eq!(place.names("engines/tiny"), INSTALLED);
        }
        assert_eq!(place.names("engines"), [".tiny.lock", "tiny"]);
    }

    #[test]
    fn cuda_comes_where_it_is_not_found() {
        let mut place = Place::new();
        place.install_from_index().unwrap();
        assert_eq!(place.downloads(), 1);
        place.cuda.clear();
        place.install_from_index().unwrap();
        assert!(
            place
                .names("engines/tiny")
                .contains(&"libtinycuda.so.2".to_owned())
        );
        let downloads = place.downloads();
        place.cuda.push(place.path("elsewhere"));
        place.install_from_index().unwrap();
        assert_eq!(
            place.downloads(),
            downloads,
            "more than needed is right too"
        );
    }

    #[test]
    fn two_at_once_download_once() {
        let place = Place::new();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| place.install_from_index().map(drop)))
                .collect();
            all.into_iter().for_each(|one| one.join().unwrap().unwrap());
        });
        assert_eq!(place.downloads(), 1);
    }

    #[test]
    fn what_an_interrupted_run_left() {
        let place = Place::new();
        let left = place.path("engines/.tiny.partial");
        fs::create_dir_all(left.join("made")).unwrap();
        fs::create_dir_all(left.join("packages")).unwrap();
        fs::write(left.join("made/libtiny.so.1.0"), "hal").unwrap();
        fs::write(left.join("stdout"), "").unwrap();
        fs::copy(
            place.path("wheels").join(WHEEL),
            left.join("packages").join(WHEEL),
        )
        .unwrap();
        place.install_from_index().unwrap();
        assert_eq!(place.downloads(), 0, "the whole wheel is used");
        assert_eq!(place.names("engines/tiny"), INSTALLED);

        fs::remove_dir_all(place.path("engines/tiny")).unwrap();
        fs::create_dir_all(left.join("packages")).unwrap();
        fs::write(left.join("packages").join(WHEEL), "PK half").unwrap();
        place.install_from_index().unwrap();
        assert_eq!(place.downloads(), 1, "the cut wheel is not");
        assert_eq!(place.names("engines"), [".tiny.lock", "tiny"]);
    }

    #[test]
    fn failures_name_the_remedy_and_leave_nothing() {
        let mut place = Place::new();
        let fails = |place: &Place, expected: &str| {
            let error = place.install_from_index().expect_err(expected);
            assert!(error.report().contains(expected), "{}", error.report());
            assert_eq!(place.names("engines"), [".tiny.lock"], "{expected}");
            error
        };
        fs::write(place.path("no-network"), "").unwrap();
        let error = fails(&place, "No matching distribution");
        assert!(error.hint().unwrap().contains("check the network"));
        fs::write(place.path("no-pip"), "").unwrap();
        let error = fails(&place, "No module named pip");
        assert!(error.hint().unwrap().contains("apt install python3-pip"));
        fs::remove_file(place.path("no-pip")).unwrap();
        fs::remove_file(place.path("no-network")).unwrap();
        fs::write(place.path("wheels").join(WHEEL), "another").unwrap();
        let error = fails(&place, "expected sha256");
        assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
        place.manifest.packages[0].wheel.file = "tiny-1.1-py3-none-any.whl".to_owned();
        fails(
            &place,
            "expected `tiny-1.1-py3-none-any.whl`, got another file",
        );
    }

    #[test]
    fn a_package_without_the_library_is_refused() {
        let mut place = Place::new();
        let links = &mut place.manifest.links;
        links.insert("libtiny.so.1".to_owned(), "libtiny.so.9".to_owned());
        let error = place.install_from_index().unwrap_err();
        assert!(
            error.to_string().contains("hold no `libtiny.so.9`"),
            "{error}"
        );
        assert_eq!(place.names("engines"), [".tiny.lock"]);
    }

    #[test]
    fn install_from_files_no_python_is_used() {
        let mut place = Place::new();
        fs::rename(place.path("wheels").join(WHEEL), place.path("renamed (1)")).unwrap();
        place.install_from_files(&["renamed (1)"]).unwrap();
        assert_eq!(place.names("engines/tiny"), INSTALLED);
        assert_eq!(place.downloads(), 0);

        place.cuda.clear();
        let error = place.install_from_files(&["renamed (1)"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error.to_string().ends_with(&format!("too: `{CUDA_WHEEL}`")),
            "{error}"
        );
        let cuda = format!("wheels/{CUDA_WHEEL}");
        place
            .install_from_files(&["renamed (1)", &cuda, &cuda])
            .unwrap();
        assert_eq!(place.names("engines/tiny").len(), INSTALLED.len() + 1);
        assert_eq!(place.downloads(), 0);
    }

    #[test]
    fn files_that_are_not_wanted() {
        let place = Place::new();
        fs::write(place.path("other.whl"), "x").unwrap();
        let error = place.install_from_files(&["other.whl"]).unwrap_err();
        let expected = format!(
            "expected one of `{WHEEL}` (tiny 1.0), `{CUDA_WHEEL}` (tiny-cuda 2.0), got `{}`",
            place.path("other.whl").display()
        );
        assert_eq!(error.to_string(), expected);
        let error = place.install_from_files(&["nothing.whl"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        fs::write(place.path(WHEEL), "another").unwrap();
        let error = place.install_from_files(&[WHEEL]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
        assert!(error.hint().unwrap().contains("(tiny 1.0), whole"));
        assert_eq!(place.names("engines"), [".tiny.lock"]);
    }

    #[test]
    fn other_machines_are_told() {
        check_platform("x86_64", "linux").unwrap();
        for (processor, system) in [("aarch64", "linux"), ("x86_64", "macos")] {
            let error = check_platform(processor, system).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
            assert!(error.to_string().contains("expected x86_64 Linux"));
        }
    }
}
