//! Runs the machine's Python: isolated (`-I`), in a private folder, its output kept for the error.
//!
//! pip is used as the person configured it; nothing from the current folder is ever imported.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use infer_core::{Error, ErrorKind, Result};

use crate::file_error;

const TICK: Duration = Duration::from_millis(50);
const LINES_SHOWN: usize = 12;

/// A Python 3 and the private folder that it runs in.
pub(crate) struct Python<'a> {
    pub(crate) program: &'a Path,
    pub(crate) folder: &'a Path,
}

impl Python<'_> {
    /// Where the programs that run keep their temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// What the running program has written to its standard output.
    pub(crate) fn output(&self) -> PathBuf {
        self.folder.join("stdout")
    }

    /// Finds out whether Python and pip are there.
    pub(crate) fn check_pip(&self) -> Result<()> {
        self.run(
            "python3 -m pip --version",
            &["-m", "pip", "--version"],
            &mut || {},
        )
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => error,
            _ => Error::new(
                ErrorKind::NotFound,
                "expected Python 3 with pip, got a Python without",
            )
            .with_source(error)
            .with_hint("install pip (on Debian and Ubuntu: apt install python3-pip)"),
        })
    }

    /// Runs Python with these arguments, calling `tick` every now and then, until it ends.
    pub(crate) fn run(&self, what: &str, arguments: &[&str], tick: &mut dyn FnMut()) -> Result<()> {
        let temporary = self.temporary();
        std::fs::create_dir_all(&temporary)
            .map_err(|error| file_error("create", &temporary, error))?;
        let errors = self.folder.join("stderr");
        let create =
            |path: &Path| File::create(path).map_err(|error| file_error("create", path, error));
        let mut command = Command::new(self.program);
        command
            .args(["-I", "-B"])
            .args(arguments)
            .current_dir(self.folder)
            .env("TMPDIR", &temporary);
        command
            .stdin(Stdio::null())
            .stdout(create(&self.output())?)
            .stderr(create(&errors)?);
        let child = command.spawn().map_err(|error| self.missing(error))?;
        let status = wait(child, tick).map_err(|error| file_error("run", self.program, error))?;
        if status.success() {
            return Ok(());
        }
        let said = [tail(&self.output()), tail(&errors)].concat();
        Err(Error::new(
            ErrorKind::RuntimeError,
            format!("`{what}` failed ({status})"),
        )
        .with_source(said.trim_end()))
    }

    fn missing(&self, error: std::io::Error) -> Error {
        let message = format!(
            "expected `{}` in PATH, could not run it",
            self.program.display()
        );
        Error::new(ErrorKind::NotFound, message)
            .with_source(error)
            .with_hint(
                "install Python 3 with pip (on Debian and Ubuntu: apt install python3 python3-pip)",
            )
    }
}

fn wait(child: Child, tick: &mut dyn FnMut()) -> std::io::Result<ExitStatus> {
    /// Ends the program when the caller's progress report panics.
    struct Guard(Child);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut child = Guard(child);
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        tick();
        std::thread::sleep(TICK);
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("progress "))
        .collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}
