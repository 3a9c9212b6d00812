//! Installs a known model: packages by pip, files out of them or converted, everything checked, then
//! moved into place at once.
//!
//! Steps: take the model's lock; done if it is there and right; download each package; make each file
//! in a private folder beside the final one; rename. What an interrupted run left is removed first.

use std::fs;
use std::path::{Path, PathBuf};

use infer_core::Result;
use serde::Deserialize;

use crate::install::{create_folder, file_error, lock, remove_folder, replace};
use crate::manifest::{check_path, check_sha256, invalid};
use crate::packages::{Downloader, Package};
use crate::python::Python;
use crate::store::needs_fetch;
use crate::{Manifest, ModelStore, digest};

/// How a model is brought: packages, and the files made out of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// What is downloaded.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// What is installed beside the manifest.
    pub files: Vec<FetchedFile>,
}

/// A file that is installed: a member of a package as it is, a conversion of members, or a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchedFile {
    /// Relative to the model's folder.
    pub path: String,
    /// The program of `models/convert` that makes the file of the members.
    pub converter: Option<String>,
    /// `PACKAGE:MEMBER`; one where there is no converter.
    #[serde(default)]
    pub members: Vec<String>,
    /// The file's whole content, in place of members.
    pub text: Option<String>,
    /// The file's digest in hexadecimal.
    pub sha256: String,
}

/// How far an installation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress<'a> {
    /// The model was there already, and is right.
    Present,
    /// Another process installs the same model.
    Waiting,
    /// A package comes.
    Downloading {
        /// The package's name.
        package: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A file is made.
    Making {
        /// The file's path in the model's folder.
        path: &'a str,
        /// Steps so far.
        done: u64,
        /// Steps in all.
        total: u64,
    },
}

/// The name and text of a program in `models/convert`.
macro_rules! script {
    ($name:literal) => {
        ($name, include_str!(concat!("../convert/", $name, ".py")))
    };
}

/// The programs that run under Python.
const SCRIPTS: [(&str, &str); 19] = [
    script!("efficientnet_lite"),
    script!("efficientnet_lite_layers"),
    script!("efficientnet_lite_openvino"),
    script!("efficientnet_lite_tensorflow"),
    script!("efficientnet_lite_tflite"),
    script!("fix_batch"),
    script!("imagenet_labels"),
    script!("imgsim_resnet50"),
    script!("magika_labels"),
    script!("minilm"),
    script!("onnx_writer"),
    script!("openvino_writer"),
    script!("paddle_labels"),
    script!("protobuf_reader"),
    script!("safetensors_reader"),
    script!("tensorflow_writer"),
    script!("tflite_writer"),
    script!("torch_reader"),
    script!("unpack"),
];

impl Fetch {
    pub(crate) fn check(&self) -> Result<()> {
        self.packages.iter().try_for_each(Package::check)?;
        for file in &self.files {
            check_path(&file.path)?;
            check_sha256(&file.path, &file.sha256)?;
            let (members, text) = (file.members.len(), file.text.is_some());
            let makeable = if file.converter.is_some() {
                members > 0
            } else {
                members + usize::from(text) == 1
            };
            if !makeable {
                let path = &file.path;
                return Err(invalid(format!(
                    "file `{path}`: expected one member, a converter with members, or a text"
                )));
            }
            if let Some(name) = &file.converter
                && !SCRIPTS.iter().any(|(script, _)| script == name)
            {
                return Err(invalid(format!(
                    "file `{}`: unknown converter `{name}`",
                    file.path
                )));
            }
            for member in &file.members {
                self.package_of(member)?;
            }
        }
        Ok(())
    }

    fn package_of<'a>(&self, member: &'a str) -> Result<(&Package, &'a str)> {
        let found = member.split_once(':').and_then(|(name, member)| {
            Some((
                self.packages.iter().find(|package| package.name == name)?,
                member,
            ))
        });
        found.ok_or_else(|| {
            invalid(format!(
                "expected PACKAGE:MEMBER with a listed package, got `{member}`"
            ))
        })
    }
}

/// Installs the model of this manifest under this name and gives its folder.
pub(crate) fn install(
    store: &ModelStore,
    name: &str,
    manifest_text: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf> {
    let manifest = Manifest::parse(manifest_text)?;
    let fetch = needs_fetch(&manifest)?;
    let target = store.folder().join(name);
    if is_whole(&target, manifest_text, fetch) {
        progress(Progress::Present);
        return Ok(target);
    }
    create_folder(store.folder())?;
    let lock_path = store.folder().join(format!(".{name}.lock"));
    let _lock = lock(&lock_path, &mut || progress(Progress::Waiting))?;
    if is_whole(&target, manifest_text, fetch) {
        progress(Progress::Present);
        return Ok(target);
    }
    let work = store.folder().join(format!(".{name}.partial"));
    remove_folder(&work)?;
    let python = Python {
        program: &store.python,
        folder: &work,
    };
    let installed = Installation { python, fetch }.install(manifest_text, &target, progress);
    let removed = remove_folder(&work);
    installed.and(removed).map(|()| target)
}

/// Whether everything is there with the right content.
fn is_whole(target: &Path, manifest_text: &str, fetch: &Fetch) -> bool {
    fs::read_to_string(target.join("model.toml")).is_ok_and(|text| text == manifest_text)
        && fetch
            .files
            .iter()
            .all(|file| digest::check(&target.join(&file.path), &file.sha256, "").is_ok())
}

struct Installation<'a> {
    python: Python<'a>,
    fetch: &'a Fetch,
}

impl Installation<'_> {
    /// Makes everything in the private folder, then moves it to the target at once.
    fn install(
        &self,
        manifest_text: &str,
        target: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        let made = self.python.folder.join("made");
        create_folder(&made)?;
        self.downloader().check_pip()?;
        self.make_all(progress)?;
        write(&made.join("model.toml"), manifest_text)?;
        replace(&made, target, &self.python.folder.join("replaced"))
    }

    fn make_all(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        let scripts = self.python.folder.join("convert");
        create_folder(&scripts)?;
        for (name, text) in SCRIPTS {
            write(&scripts.join(format!("{name}.py")), text)?;
        }
        for package in &self.fetch.packages {
            let (name, total) = (package.name.as_str(), package.bytes);
            let mut report = |done: u64| {
                progress(Progress::Downloading {
                    package: name,
                    done,
                    total,
                });
            };
            self.downloader().download(package, &mut report)?;
        }
        for file in &self.fetch.files {
            self.make(file, progress)?;
        }
        Ok(())
    }

    fn downloader(&self) -> Downloader<'_> {
        Downloader {
            python: self.python.program,
            folder: self.python.folder,
        }
    }

    fn make(&self, file: &FetchedFile, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        progress(Progress::Making {
            path: &file.path,
            done: 0,
            total: 1,
        });
        let output = self.python.folder.join("made").join(&file.path);
        // Programs run in the private folder: a relative path suits them whatever the folder's name is.
        let relative = format!("made/{}", file.path);
        if let Some(parent) = output.parent() {
            create_folder(parent)?;
        }
        match (&file.text, &file.converter) {
            (Some(text), _) => write(&output, text)?,
            (None, Some(converter)) => self.convert(file, converter, &relative, progress)?,
            (None, None) => self.unpack(&file.members[0], &relative)?,
        }
        progress(Progress::Making {
            path: &file.path,
            done: 1,
            total: 1,
        });
        digest::check(
            &output,
            &file.sha256,
            "please report this: the conversion should give the same file everywhere",
        )
    }

    fn unpack(&self, member: &str, output: &str) -> Result<()> {
        let (package, member) = self.fetch.package_of(member)?;
        let wheel = format!("packages/{}", package.file);
        self.python.run(
            &format!("unpack {member}"),
            &["convert/unpack.py", output, &wheel, member],
            &mut || {},
        )
    }

    fn convert(
        &self,
        file: &FetchedFile,
        converter: &str,
        output: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        let mut arguments = vec![format!("convert/{converter}.py"), output.to_owned()];
        for (index, member) in file.members.iter().enumerate() {
            let unpacked = format!("member{index}");
            self.unpack(member, &unpacked)?;
            arguments.push(unpacked);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let lines = self.python.output();
        let mut tick = || {
            if let Some((done, total)) = last_progress(&lines) {
                progress(Progress::Making {
                    path: &file.path,
                    done,
                    total,
                });
            }
        };
        self.python
            .run(&format!("{converter}.py"), &arguments, &mut tick)
    }
}

/// The last `progress DONE TOTAL` line that a converter wrote.
fn last_progress(output: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(output).ok()?;
    let (done, total) = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("progress ")?.split_once(' '))?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| file_error("write", path, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use infer_core::{Error, ErrorKind};
    use std::process::Command;
    use tempfile::TempDir;

    /// A folder with a store, a wheel in place of the network, and the manifest of a model in it.
    struct Place {
        folder: TempDir,
        manifest: String,
    }

    const LABELS: &str = "cat\ndog\n";

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            let wheel = folder.path().join("wheels/tiny-1.0-py3-none-any.whl");
            fs::create_dir(folder.path().join("wheels")).unwrap();
            fs::write(folder.path().join("LICENSE"), "free\n").unwrap();
            fs::write(
                folder.path().join("model.onnx"),
                include_bytes!("../testdata/add.onnx"),
            )
            .unwrap();
            fs::write(
                folder.path().join("c.json"),
                "{\"target_labels_space\": [\"cat\", \"dog\"]}",
            )
            .unwrap();
            fs::write(folder.path().join("labels"), LABELS).unwrap();
            let zipped = Command::new("python3")
                .args(["-I", "-m", "zipfile", "-c"])
                .arg(&wheel)
                .args(["LICENSE", "model.onnx", "c.json"])
                .current_dir(folder.path())
                .status();
            assert!(zipped.unwrap().success());
            let sha = |name: &str| digest::sha256(&folder.path().join(name)).unwrap();
            let manifest = format!(
                r#"
                [[files]]
                path = "model.onnx"
                [[fetch.packages]]
                name = "tiny"
                version = "1.0"
                file = "tiny-1.0-py3-none-any.whl"
                bytes = 100
                sha256 = "{}"
                [[fetch.files]]
                path = "model.onnx"
                members = ["tiny:model.onnx"]
                sha256 = "{}"
                [[fetch.files]]
                path = "labels/labels.txt"
                converter = "magika_labels"
                members = ["tiny:c.json"]
                sha256 = "{}"
                [[fetch.files]]
                path = "NOTE"
                text = "free\n"
                sha256 = "{}"
                "#,
                digest::sha256(&wheel).unwrap(),
                sha("model.onnx"),
                sha("labels"),
                sha("LICENSE"),
            );
            Place { folder, manifest }
        }

        fn store(&self) -> ModelStore {
            let python = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/testdata/python-without-network"
            );
            ModelStore::at(self.folder.path().join("models")).with_python(python)
        }

        fn install(&self) -> Result<PathBuf> {
            install(&self.store(), "tiny", &self.manifest, &mut |_| {})
        }

        fn fails_with(&self, expected: &str) -> Error {
            let error = self.install().expect_err(expected);
            assert!(error.report().contains(expected), "{}", error.report());
            assert!(
                !self.folder.path().join("models/tiny").exists(),
                "{expected}"
            );
            error
        }

        fn downloads(&self) -> usize {
            fs::read_to_string(self.folder.path().join("calls"))
                .unwrap_or_default()
                .lines()
                .count()
        }
    }

    #[test]
    fn installs_once_and_repairs() {
        let place = Place::new();
        let mut seen = Vec::new();
        let mut progress = |progress: Progress<'_>| seen.push(format!("{progress:?}"));
        let folder = install(&place.store(), "tiny", &place.manifest, &mut progress).unwrap();
        assert_eq!(
            fs::read_to_string(folder.join("labels/labels.txt")).unwrap(),
            LABELS
        );
        assert_eq!(
            fs::read_to_string(folder.join("model.toml")).unwrap(),
            place.manifest
        );
        assert!(
            seen.contains(&"Downloading { package: \"tiny\", done: 100, total: 100 }".to_owned()),
            "{seen:?}"
        );
        assert!(
            seen.contains(&"Making { path: \"NOTE\", done: 1, total: 1 }".to_owned()),
            "{seen:?}"
        );
        place.install().unwrap();
        assert_eq!(place.downloads(), 1, "the second time needs no network");

        fs::write(folder.join("model.onnx"), "broken").unwrap();
        fs::create_dir(place.folder.path().join("models/.tiny.partial")).unwrap();
        place.install().unwrap();
        assert_eq!(place.downloads(), 2);
        assert!(fs::read(folder.join("model.onnx")).unwrap().len() > 50);
        let mut left: Vec<_> = fs::read_dir(place.folder.path().join("models"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [".tiny.lock", "tiny"]);
    }

    #[test]
    fn two_at_once_download_once() {
        let place = Place::new();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| place.install().map(drop)))
                .collect();
            all.into_iter().for_each(|one| one.join().unwrap().unwrap());
        });
        assert_eq!(place.downloads(), 1);
    }

    #[test]
    fn failures_name_the_remedy_and_leave_nothing() {
        let place = Place::new();
        let wrong = Place {
            folder: tempfile::tempdir().unwrap(),
            manifest: place.manifest.replace("tiny-1.0", "tiny-1.1"),
        };
        fs::create_dir(wrong.folder.path().join("wheels")).unwrap();
        fs::write(
            wrong.folder.path().join("wheels/tiny-1.1-py3-none-any.whl"),
            "other",
        )
        .unwrap();
        wrong.fails_with("expected sha256");
        fs::write(wrong.folder.path().join("no-network"), "").unwrap();
        let error = wrong.fails_with("ERROR: No matching distribution found for tiny==1.0");
        assert!(
            error.hint().unwrap().contains("check the network"),
            "{error:?}"
        );
        fs::write(wrong.folder.path().join("no-pip"), "").unwrap();
        let error = wrong.fails_with("No module named pip");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("apt install python3-pip"));
        let store = place.store().with_python("/nonexistent/python3");
        let error = install(&store, "tiny", &place.manifest, &mut |_| {}).unwrap_err();
        assert!(
            error
                .hint()
                .unwrap()
                .contains("apt install python3 python3-pip")
        );
    }

    #[test]
    fn manifests_that_cannot_be_made() {
        let sha = "0".repeat(64);
        let cases = [
            (
                "",
                "expected one member, a converter with members, or a text",
            ),
            ("text = \"a\"\nmembers = [\"p:m\"]", "expected one member"),
            ("converter = \"x\"", "expected one member"),
            (
                "converter = \"x\"\nmembers = [\"p:m\"]",
                "file `f`: unknown converter `x`",
            ),
            (
                "members = [\"p:m\"]",
                "expected PACKAGE:MEMBER with a listed package, got `p:m`",
            ),
        ];
        for (keys, expected) in cases {
            let text = format!("[[fetch.files]]\npath = \"f\"\nsha256 = \"{sha}\"\n{keys}");
            let error = Manifest::parse(&text).unwrap_err();
            assert!(error.to_string().contains(expected), "{keys}: {error}");
        }
    }
}
