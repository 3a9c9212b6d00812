//! Packages of the Python package index: brought by the machine's own pip, always the same file under
//! any Python, and taken only with the digest that was asked for.
//!
//! Python runs isolated and in a private folder. No package is ever installed or executed.

use std::fs;
use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::manifest::{check_path, check_sha256};
use crate::python::Python;
use crate::{digest, install};

/// A wheel of the Python package index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// Exactly this version.
    pub version: String,
    /// The wheel's file name; its end says for which Python and platforms it is.
    pub file: String,
    /// The wheel's size in bytes.
    pub bytes: u64,
    /// The wheel's digest in hexadecimal.
    pub sha256: String,
}

impl Package {
    /// Checks the file's name and digest.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that leads elsewhere and for what is no digest.
    pub fn check(&self) -> Result<()> {
        check_path(&self.file)?;
        check_sha256(&self.file, &self.sha256)
    }

    /// The command that brings this wheel on any machine with Python and network.
    pub fn command(&self) -> String {
        let (options, name, version) = (self.choice().join(" "), &self.name, &self.version);
        format!("python3 -m pip download --no-deps --only-binary=:all: {options} {name}=={version}")
    }

    /// pip's options that choose this wheel whatever Python and platform pip itself has.
    fn choice(&self) -> Vec<String> {
        let tags: Vec<&str> = self.file.trim_end_matches(".whl").rsplit('-').collect();
        let platforms = tags.first().copied().unwrap_or("any").split('.');
        let mut options: Vec<String> = platforms
            .map(|platform| format!("--platform={platform}"))
            .collect();
        // `cp312`, or `py3`, which any Python 3 takes.
        let python = tags.get(2).and_then(|tag| tag.strip_prefix("cp3"));
        options.push(format!("--python-version=3.{}", python.unwrap_or("12")));
        options
    }
}

/// Brings packages into a private folder, which nobody else writes to.
#[derive(Clone, Copy, Debug)]
pub struct Downloader<'a> {
    /// The Python 3 that has pip, `python3` say.
    pub python: &'a Path,
    /// The private folder.
    pub folder: &'a Path,
}

impl Downloader<'_> {
    /// Finds out whether Python and pip are there.
    ///
    /// # Errors
    /// `NotFound` with what to install.
    pub fn check_pip(&self) -> Result<()> {
        install::create_folder(self.folder)?;
        self.program().check_pip()
    }

    /// Downloads a package, unless an earlier run left it whole, and gives the wheel's path. `progress` is
    /// called with the bytes so far.
    ///
    /// # Errors
    /// `RuntimeError` where pip fails, with what it said; `NotFound` and `InvalidEncoding` where the index
    /// gave another file.
    pub fn download(&self, package: &Package, progress: &mut dyn FnMut(u64)) -> Result<PathBuf> {
        let wheel = self.folder.join("packages").join(&package.file);
        progress(0);
        if digest::check(&wheel, &package.sha256, "").is_err() {
            self.run_pip(package, progress)?;
        }
        progress(package.bytes);
        if !wheel.is_file() {
            let message = format!(
                "`pip download {}=={}`: expected `{}`, got another file",
                package.name, package.version, package.file
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        digest::check(
            &wheel,
            &package.sha256,
            "the package index that pip uses gave another file: check pip's settings",
        )?;
        Ok(wheel)
    }

    fn run_pip(&self, package: &Package, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let requirement = format!("{}=={}", package.name, package.version);
        let choice = package.choice();
        let mut arguments = vec![
            "-m",
            "pip",
            "download",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--progress-bar=off",
            "--dest=packages",
        ];
        arguments.extend(choice.iter().map(String::as_str));
        arguments.push(&requirement);
        let python = self.program();
        let temporary = python.temporary();
        let mut tick = || progress(largest_file(&temporary).min(package.bytes));
        let what = format!("pip download {requirement}");
        python.run(&what, &arguments, &mut tick).map_err(|error| {
            error.with_hint(
                "packages come through pip as it is configured here: check the network and `python3 -m pip config list`",
            )
        })
    }

    fn program(&self) -> Python<'_> {
        Python {
            program: self.python,
            folder: self.folder,
        }
    }
}

/// The size of the largest file below a folder: how far pip is with its download.
fn largest_file(folder: &Path) -> u64 {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => largest_file(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(size).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_pip_is_asked_for() {
        let cases = [
            (
                "magika-1.0-py3-none-any.whl",
                "--platform=any --python-version=3.12",
            ),
            (
                "openvino-2026.4.1-22982-cp312-cp312-manylinux_2_28_x86_64.whl",
                "--platform=manylinux_2_28_x86_64 --python-version=3.12",
            ),
            (
                "a-1-cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                "--platform=manylinux2014_x86_64 --platform=manylinux_2_17_x86_64 --python-version=3.11",
            ),
        ];
        for (file, expected) in cases {
            let package = Package {
                name: "p".to_owned(),
                version: "1".to_owned(),
                file: file.to_owned(),
                bytes: 1,
                sha256: "0".repeat(64),
            };
            assert_eq!(package.choice().join(" "), expected, "{file}");
        }
    }
}
