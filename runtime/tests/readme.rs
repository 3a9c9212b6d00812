//! Every command of the README works: those of `infer` run here, those of `scripts` run in `scripts/test`.

mod common;

use infer_core::testing::engines_are_skipped;

#[test]
fn the_commands_of_the_readme_work() {
    let root = common::root();
    let readme = std::fs::read_to_string(root.join("README.md")).expect("a README");
    let folder = tempfile::tempdir().expect("a folder");
    // Commands write beside themselves: they run in a folder that only looks like the repository.
    for name in [
        "guest-examples",
        "photos",
        "runtime",
        "models",
        "backends",
        "benches",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        let target = root
            .join(name)
            .canonicalize()
            .unwrap_or_else(|error| panic!("`{name}`: {error}"));
        std::os::unix::fs::symlink(target, folder.path().join(name)).expect("a link");
    }
    let commands = commands(&readme);
    assert!(
        commands.len() > 10,
        "the README has its commands: {commands:?}"
    );
    for command in commands {
        let program = command.split_whitespace().next().unwrap_or_default();
        let needs_engines = command.contains("openvino");
        match program {
            "infer" if needs_engines && engines_are_skipped(command) => {}
            "infer" => run(command, folder.path()),
            "scripts/demo" | "scripts/test" => assert!(root.join(program).is_file(), "{program}"),
            "cargo" => assert_eq!(command, "cargo install --locked --path runtime"),
            other => panic!("`{other}` in the README is not tested"),
        }
    }
}

/// The lines of shell blocks, without comments.
fn commands(readme: &str) -> Vec<&str> {
    let blocks = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines);
    lines
        .map(|line| line.split("   #").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect()
}

fn run(command: &str, folder: &std::path::Path) {
    let output = common::shell(command, folder).output().expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}` failed: {stderr}");
    assert!(
        !output.stdout.is_empty() || command.contains(" -o ") || command.contains(" > "),
        "`{command}`"
    );
}
