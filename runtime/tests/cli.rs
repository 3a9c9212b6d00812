//! The command line as a person uses it: each file of `tests/cli` is a command and what it must show.
//!
//! A file holds `$ COMMAND`, which a shell runs in the repository's root with `infer` on its path, then its
//! exit status, standard output and standard error. `BLESS=1` writes what it shows now. `$TMP` is a folder for
//! made files, `$GUESTS` the folder of built guests; both, and the user's folder of models (`$STORE`), stand by
//! name in what is shown.

mod common;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::Abi;
use infer_core::testing::engines_are_skipped;
use infer_models::ModelStore;

/// Nodes of a model that takes tract more than a minute to load.
const CHAIN: usize = 100_000;

#[test]
fn every_command_shows_what_its_file_says() {
    let folder = common::root().join("runtime/tests/cli");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of commands")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cli"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "the folder has its commands");
    let places = Places::prepare();
    let failures: Vec<String> = files
        .iter()
        .filter_map(|file| check(file, &places).err())
        .collect();
    assert!(
        failures.is_empty(),
        "{}\n(BLESS=1 writes what is shown now)",
        failures.join("\n")
    );
}

/// Folders that commands name by variables.
struct Places {
    root: PathBuf,
    guests: PathBuf,
    temporary: PathBuf,
}

impl Places {
    fn prepare() -> Places {
        let root = common::root().canonicalize().expect("the repository");
        let guests = common::guest_path("hello", Abi::Component);
        let guests = guests
            .ancestors()
            .nth(3)
            .expect("a target folder")
            .canonicalize()
            .expect("built guests");
        let temporary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli");
        // What an earlier run left would change what is shown.
        let _ = std::fs::remove_dir_all(&temporary);
        std::fs::create_dir_all(&temporary).expect("writable");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(temporary.join(name), bytes).expect("writable")
        };
        write("chain.onnx", &common::chain(CHAIN));
        write("strings.onnx", &common::strings());
        write("empty.onnx", b"");
        write("page.onnx", b"<!DOCTYPE html><html><body>404</body></html>");
        let whole = std::fs::read(common::test_model("network")).expect("a test model");
        write("cut.onnx", &whole[..whole.len() / 2]);
        Places {
            root,
            guests,
            temporary,
        }
    }

    /// Paths of this machine by their names.
    fn normalise(&self, text: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(text).into_owned();
        let store = ModelStore::from_environment().expect("a folder for models");
        let names = [
            (store.folder(), "$STORE"),
            (&self.temporary, "$TMP"),
            (&self.guests, "$GUESTS"),
            (&self.root, "$REPO"),
        ];
        for (path, name) in names {
            text = text.replace(&*path.to_string_lossy(), name);
        }
        text
    }
}

fn check(file: &Path, places: &Places) -> Result<(), String> {
    let committed = std::fs::read_to_string(file).expect("readable");
    let command = committed
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("$ "));
    let command = command.unwrap_or_else(|| panic!("{}: expected `$ COMMAND`", file.display()));
    if needs_engines(&committed) && engines_are_skipped(&file.display().to_string()) {
        return Ok(());
    }
    let shown = show(command, places);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, shown).expect("writable");
        return Ok(());
    }
    match shown == committed {
        true => Ok(()),
        false => Err(format!(
            "{}\nexpected:\n{committed}\ngot:\n{shown}",
            file.display()
        )),
    }
}

/// Whether a command shows a native engine that is installed.
fn needs_engines(committed: &str) -> bool {
    let named = ["onnxruntime", "openvino"]
        .iter()
        .any(|name| committed.contains(name));
    named && !committed.contains("INFER_HOME=")
}

fn show(command: &str, places: &Places) -> String {
    let output = common::shell(command, &places.root)
        .env("TMP", &places.temporary)
        .env("GUESTS", &places.guests)
        .output()
        .expect("a shell");
    let mut shown = format!(
        "$ {command}\nstatus: {}\n",
        output.status.code().unwrap_or(-1)
    );
    for (title, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = places.normalise(bytes);
        if !text.is_empty() {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            write!(shown, "--- {title}\n{text}{end}").expect("a String");
        }
    }
    shown
}

/// `infer run` of the guest that runs models on demand, with a model `m` that gives its input back.
struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> Worker {
        let identity = common::test_model("identity-f32");
        let mut child = Command::new(env!("CARGO_BIN_EXE_infer"))
            .args(["run", "--no-tuned", "--model"])
            .arg(format!("m={}", identity.display()))
            .arg(common::guest_path("worker", Abi::Component))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        Worker {
            orders: child.stdin.take().expect("a pipe"),
            answers: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    fn does(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("it reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        assert!(!answer.is_empty(), "{order}");
    }

    /// The kernel's words about its process while it waits for the next order.
    fn says(&self, what: &str) -> String {
        let path = format!("/proc/{}/{what}", self.child.id());
        std::fs::read_to_string(path).expect("Linux")
    }

    fn ends(mut self) {
        drop(self.orders);
        assert!(self.child.wait().expect("it ends").success());
    }
}

#[test]
fn many_calls_take_no_more_memory_than_few() {
    let mut worker = Worker::start();
    let mut resident_after = |order: &str| {
        worker.does(order);
        let status = worker.says("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kibibytes.expect("a size").parse::<u64>().expect("a number")
    };
    let few = resident_after("m x 1 4 1 10000");
    let many = resident_after("m x 1 4 1 400000");
    worker.ends();
    assert!(many < few + (8 << 10), "{few} KiB, then {many} KiB");
}

/// What an engine touches while a model loads and first runs, and a guest where its tensors are large.
#[test]
fn a_run_with_a_model_has_large_pages_for_its_heap_and_for_memory_that_grows_large() {
    if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        let _ = writeln!(std::io::stderr(), "skipped: this kernel has no large pages");
        return;
    }
    let mut worker = Worker::start();
    let mut after = |order: &str| {
        worker.does(order);
        worker.says("smaps")
    };
    let (small, large) = (after("m x 1 4 1 1"), after("m x 6000000 24000000 1 1"));
    worker.ends();
    // Mappings of which the first line is such a one, and that shall have large pages.
    let asked = |maps: &str, is_it: fn(&str) -> bool| {
        let mut found = false;
        maps.lines().any(|line| {
            match line.split_once(':') {
                Some(("VmFlags", flags)) => return found && flags.contains(" hg"),
                Some((word, _)) if !word.contains(' ') => {}
                _ => found = is_it(line),
            }
            false
        })
    };
    let heap = |line: &str| line.ends_with("[heap]");
    // No other mapping is as large.
    let reserved = |line: &str| {
        let addresses = line
            .split_once(' ')
            .and_then(|(both, _)| both.split_once('-'));
        addresses.is_some_and(|(begin, end)| {
            let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16).unwrap_or(0));
            end - begin > 2 << 30
        })
    };
    assert!(asked(&small, heap), "{small}");
    assert!(!asked(&small, reserved), "{small}");
    assert!(asked(&large, reserved), "{large}");
}
