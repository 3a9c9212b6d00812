//! The engines that are known, and the record of one that is installed.
//!
//! A manifest is built in (`known/*.toml`) and names exact wheels with their digests. A record,
//! `engine.toml` in an engine's folder, is written last and says what lies there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use infer_core::{Error, ErrorKind, Result};
use infer_models::Package;
use infer_models::install::{check_path, file_error};
use serde::Deserialize;

const LARGEST_RECORD: u64 = 1024 * 1024;

/// The name of a record in an engine's folder.
pub(crate) const RECORD: &str = "engine.toml";

/// The manifests that are built in.
const KNOWN: [&str; 3] = [
    include_str!("../known/onnxruntime.toml"),
    include_str!("../known/onnxruntime-cuda.toml"),
    include_str!("../known/openvino.toml"),
];

/// How a known engine is brought.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineManifest {
    /// The engine's name, also that of its folder.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Its licences, for people.
    pub license: String,
    /// The library that the host loads, in the engine's folder.
    pub library: String,
    /// Links in the engine's folder, by name, and the files there that they lead to.
    pub links: BTreeMap<String, String>,
    /// What is downloaded.
    pub packages: Vec<EnginePackage>,
}

/// A wheel and what is taken out of it; its licences always are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnginePackage {
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// The folder in the wheel whose libraries are taken.
    pub libraries: String,
    /// Libraries of that folder that nothing needs.
    #[serde(default)]
    pub leave_out: Vec<String>,
    /// The wheel.
    pub wheel: Package,
}

/// What a package is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The engine itself.
    #[default]
    Engine,
    /// CUDA's libraries, which a machine may have already.
    Cuda,
}

impl EngineManifest {
    /// Reads and checks a manifest's text.
    ///
    /// # Errors
    /// `InvalidArgument` for what is wrong in it.
    pub(crate) fn parse(text: &str) -> Result<EngineManifest> {
        let manifest: EngineManifest = toml::from_str(text).map_err(|error| invalid(&error))?;
        manifest
            .packages
            .iter()
            .try_for_each(|package| package.wheel.check())?;
        for (name, target) in &manifest.links {
            check_flat(name)?;
            check_flat(target)?;
        }
        check_flat(&manifest.library)?;
        Ok(manifest)
    }

    /// The manifests that are built in.
    ///
    /// # Errors
    /// `InvalidArgument` for one that is wrong.
    pub(crate) fn known() -> Result<Vec<EngineManifest>> {
        KNOWN
            .iter()
            .map(|text| EngineManifest::parse(text))
            .collect()
    }

    /// Whether some of its packages are CUDA's libraries.
    pub(crate) fn wants_cuda(&self) -> bool {
        self.packages
            .iter()
            .any(|package| package.role == Role::Cuda)
    }
}

/// What lies in an engine's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The digests of the wheels that it was made of.
    pub(crate) wheels: Vec<String>,
    pub(crate) links: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) files: Vec<RecordedFile>,
}

/// A file in an engine's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Record {
    /// Reads the record in an engine's folder.
    pub(crate) fn read(folder: &Path) -> Result<Record> {
        let path = folder.join(RECORD);
        let data = path
            .metadata()
            .map_err(|error| file_error("read", &path, error))?;
        if data.len() > LARGEST_RECORD {
            let message = format!("`{}`: expected an engine's record", path.display());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let text =
            std::fs::read_to_string(&path).map_err(|error| file_error("read", &path, error))?;
        let record: Record = toml::from_str(&text).map_err(|error| invalid(&error))?;
        record
            .files
            .iter()
            .try_for_each(|file| check_flat(&file.path))?;
        record.links.keys().try_for_each(|name| check_flat(name))?;
        Ok(record)
    }

    /// The record as TOML. Names and digests hold no character that needs more than Rust's own quoting:
    /// they come from checked manifests and from [`check_flat`].
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "name = {:?}\nversion = {:?}\nwheels = {:?}\n\n[links]\n",
            self.name, self.version, self.wheels
        );
        for (name, target) in &self.links {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:?} = {target:?}");
        }
        for RecordedFile {
            path,
            bytes,
            sha256,
        } in &self.files
        {
            let _ = write!(
                text,
                "\n[[files]]\npath = {path:?}\nbytes = {bytes}\nsha256 = {sha256:?}\n"
            );
        }
        text
    }
}

/// Fails unless this is a plain file name of letters, digits and `._+-`.
pub(crate) fn check_flat(name: &str) -> Result<()> {
    check_path(name)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    let message = format!(
        "expected a file name of letters, digits and `._+-`, got `{}`",
        name.escape_debug()
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

fn invalid(error: &toml::de::Error) -> Error {
    let message = error.message().replace('\n', ", ");
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn known_manifests_are_sound() {
        let known = EngineManifest::known().unwrap();
        let names: Vec<&str> = known.iter().map(|engine| engine.name.as_str()).collect();
        assert_eq!(names, ["onnxruntime", "onnxruntime-cuda", "openvino"]);
        for engine in &known {
            assert!(engine.links.contains_key(&engine.library));
            let engines = engine.packages.iter().filter(|p| p.role == Role::Engine);
            assert_eq!(engines.count(), 1, "{}", engine.name);
            for package in &engine.packages {
                assert!(package.wheel.file.ends_with("x86_64.whl"));
                assert!(package.wheel.file.contains(&package.wheel.version));
            }
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record {
            name: "tiny".to_owned(),
            version: "1.0+x".to_owned(),
            wheels: vec!["ab".to_owned(), "cd".to_owned()],
            links: BTreeMap::from([("liba.so".to_owned(), "liba.so.1".to_owned())]),
            files: vec![RecordedFile {
                path: "liba.so.1".to_owned(),
                bytes: 3,
                sha256: "ef".to_owned(),
            }],
        };
        std::fs::write(folder.path().join(RECORD), record.text()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), record);
    }

    #[test]
    fn names_that_could_lead_elsewhere() {
        for wrong in [
            "", "..", ".hidden", "a/b", "/a", "a\\b", "a\"b", "a\nb", "ä",
        ] {
            assert!(check_flat(wrong).is_err(), "{wrong:?}");
        }
        check_flat("libtbbbind_2_5.so.3").unwrap();
    }
}
