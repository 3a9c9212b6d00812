//! Programs that nobody of this project wrote, which look at a server as operators do: scripts/get-observers.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Skips a test where the person said so, by name.
pub fn are_skipped(what: &str) -> bool {
    skipped("INFER_SKIP_CLIENTS", "clients", what)
}

/// The same of a browser.
pub fn browser_is_skipped(what: &str) -> bool {
    skipped("INFER_SKIP_BROWSER", "a browser", what)
}

fn skipped(variable: &str, without: &str, what: &str) -> bool {
    let skipped = std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    if skipped {
        let line = format!("skipped without {without}: {what}\n");
        // Where nobody reads it, there is nobody to tell.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    skipped
}

/// Python with the packages, to run a program of `tests/observers`.
pub fn python() -> Command {
    python_with("observers")
}

/// Python with the packages that `scripts/get-WHAT` brings.
pub fn python_with(what: &str) -> Command {
    let packages = root().join(format!("target/{what}/packages.d"));
    assert!(
        packages.is_dir(),
        "`{}` is missing: run scripts/get-{what}, or skip it with INFER_SKIP_CLIENTS=1",
        packages.display()
    );
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages).arg("-B");
    python
}

/// A program of `tests/observers`.
pub fn program(name: &str) -> PathBuf {
    root().join("runtime/tests/observers").join(name)
}

/// What such a program makes of its input: JSON.
pub fn read_by(name: &str, input: &str) -> Value {
    let mut child = python()
        .arg(program(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{name} refused:\n{input}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
