//! The tests on the disk: `GROUP/NAME/model.onnx`, and beside each `test_data_set_N/input_M.pb` and `output_M.pb`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::conformance::Value;
use crate::conformance::compare::Tolerance;

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Group and name: `node/test_abs`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// Inputs and the outputs that belong to them.
#[derive(Debug)]
pub struct DataSet {
    /// The folder of its files.
    pub folder: PathBuf,
    /// What the model is given, in the order of its inputs.
    pub inputs: Vec<Value>,
    /// What it shall give.
    pub outputs: Vec<Value>,
}

/// The part of `data.json` that is used.
#[derive(Deserialize)]
struct Described {
    rtol: f64,
    atol: f64,
}

/// All tests below a folder, by name.
///
/// # Errors
/// Where a folder cannot be read.
pub fn find(data: &Path) -> io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in folders(data)? {
        for folder in folders(&group)? {
            if folder.join("model.onnx").is_file() {
                let name = folder.strip_prefix(data).unwrap_or(&folder);
                let name = name.to_string_lossy().into_owned();
                cases.push(Case { name, folder });
            }
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

impl Case {
    /// The test of this name below a folder.
    pub fn at(data: &Path, name: &str) -> Case {
        let (name, folder) = (name.to_owned(), data.join(name));
        Case { name, folder }
    }

    /// The model's file.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// How far floats may be from the expected ones: `data.json` may say so.
    ///
    /// # Errors
    /// Where that file is there and does not decode.
    pub fn tolerance(&self) -> Result<Tolerance, String> {
        let Ok(text) = std::fs::read(self.folder.join("data.json")) else {
            return Ok(Tolerance::default());
        };
        let described: Described =
            serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        Ok(Tolerance {
            relative: described.rtol,
            absolute: described.atol,
        })
    }

    /// The folders of its data sets, by name.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn sets(&self) -> io::Result<Vec<PathBuf>> {
        let mut sets = folders(&self.folder)?;
        sets.retain(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("test_data_set_")
        });
        sets.sort();
        Ok(sets)
    }
}

impl DataSet {
    /// Reads a set whose files are all tensors.
    ///
    /// # Errors
    /// What could not be read, and why.
    pub fn read(folder: &Path) -> Result<DataSet, String> {
        Ok(DataSet {
            folder: folder.to_owned(),
            inputs: files(folder, "input")?,
            outputs: files(folder, "output")?,
        })
    }
}

fn files(folder: &Path, kind: &str) -> Result<Vec<Value>, String> {
    let paths = (0..).map(|number| folder.join(format!("{kind}_{number}.pb")));
    let paths = paths.take_while(|path| path.is_file());
    paths
        .map(|path| {
            let bytes = std::fs::read(&path).map_err(|error| error.to_string());
            let value = bytes.and_then(|bytes| Value::parse(&bytes));
            value.map_err(|error| format!("{}: {error}", path.display()))
        })
        .collect()
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}
