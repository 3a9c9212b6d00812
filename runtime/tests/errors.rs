//! The table of errors, case by ABI, through real guests of both ABIs in one process.
//!
//! Every case of the guest `probe` runs against the host; what it answers is a row of `docs/errors.md`, which
//! is compared whole. After each case the same instance makes a right inference, or a new one where the case
//! ended it, and the books of the instance are back at zero. `BLESS=1` writes the page anew.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Abi, Ran};
use infer::{End, Guest, Instance, Limits, Registry};
use infer_core::Device;
use infer_core::testing::FakeBackend;

const PAGE: &str = "docs/errors.md";

const HEAD: &str = "\
# What wrong calls answer

Every case that the guest `probe` (`guest-examples/tests/probe`) tries, by both ABIs, and what the host answers:
`ok`, an error code of `wasi:nn` with its message, an errno of `wasi_ephemeral_nn` with the text that the host logs
under `-v` (that ABI has no messages), or how the guest was ended. Where the component ABI traps, on bad pointers and
handles, the trap ends that guest only.

Written by `BLESS=1 cargo test --release -p infer --test errors`, and compared by every run of that test. Models are the tiny
ones of `models/testdata` on tract; `panic` and `identity-bf16` are the fake backend's, because tract has no BF16 and
does not panic when asked to. Limits in these runs: 8 MiB of tensors and models, 100 handles, 64 MiB of memory, 1 s,
100 million units of fuel in `fuel-burn`.

";

/// Limits that every case runs under, so that those which reach for a limit do so at once.
fn limits(case: &str) -> Limits {
    Limits {
        timeout: (case.starts_with("timeout") || case.ends_with("long"))
            .then(|| Duration::from_millis(250)),
        fuel: (case == "fuel-burn").then_some(100_000_000),
        memory: 64 << 20,
        tensor_bytes: 8 << 20,
        handles: 100,
    }
}

/// Cases of the guest in other circumstances.
const VARIANTS: [(&str, &str); 5] = [
    (
        "load-gpu, granted",
        "the same, granted, on a host that has no GPU",
    ),
    (
        "load-tpu, granted",
        "the same, granted, on a host that has no TPU",
    ),
    (
        "guest-load, long",
        "the same with a model that takes the engine many seconds to load",
    ),
    (
        "guest-load, none",
        "the same with standard input that is no model",
    ),
    (
        "engine-panic, huge",
        "runs a model whose output would be over the limit",
    ),
];

/// What standard input holds.
fn stdin(case: &str) -> Vec<u8> {
    match case {
        "guest-load" => std::fs::read(common::test_model("identity-f32")).expect("a test model"),
        "guest-load, long" => common::chain(20_000),
        _ => b"not a model".to_vec(),
    }
}

/// Arguments of a case beside its name.
fn arguments(case: &str) -> &'static [&'static str] {
    match case {
        "tensor-too-large" | "load-too-large" => &["10000000"],
        "engine-panic, huge" => &["huge"],
        "open-and-close" => &["300"],
        "handles-exhausted-tensors" => &["150"],
        "handles-exhausted-errors" => &["150"],
        "tensors-too-large" => &["20"],
        _ => &[],
    }
}

fn registry(fake: &FakeBackend) -> Registry {
    let mut registry = Registry::default();
    for dtype in ["f32", "f16", "f64", "u8", "i32", "i64", "bool"] {
        common::add_model(&mut registry, &format!("identity-{dtype}"));
    }
    for name in ["add", "several", "scalar", "slow"] {
        common::add_model(&mut registry, name);
    }
    common::add_fake(&mut registry, fake, "identity-bf16", "identity bf16 [?]");
    common::add_fake(&mut registry, fake, "huge", "outputs 4000000000");
    common::add_fake(&mut registry, fake, "panic", "identity f32 [?]; panic");
    registry
}

struct Row {
    about: String,
    /// By ABI: component, preview1.
    answers: [String; 2],
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_answers_what_the_table_says() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_env_filter("infer=info")
        .with_ansi(false)
        .with_target(false)
        .with_level(false)
        .without_time()
        .with_writer(log.writer())
        .init();
    // The panics of engines are caught, and are no news here.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !infer_core::in_engine() {
            usual(panic);
        }
    }));
    let fake = FakeBackend::new();
    let registry = Arc::new(registry(&fake));
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut order = Vec::new();
    for abi in Abi::BOTH {
        let bytes = common::guest_bytes("probe", abi);
        let compile = |fuel| {
            let engine = infer::Engine::new(&infer::EngineConfig {
                fuel,
                ..infer::EngineConfig::default()
            })
            .expect("an engine");
            Guest::compile(&engine, &bytes).expect("a valid guest")
        };
        let (plain, fuelled) = (compile(false), compile(true));
        let mut cases = cases(&plain, &registry).await;
        cases.extend(VARIANTS.map(|(case, about)| (case.to_owned(), about.to_owned())));
        for (case, about) in cases {
            let guest = if case == "fuel-burn" {
                &fuelled
            } else {
                &plain
            };
            let answer = row(guest, &plain, &case, &registry, &log).await;
            let row = rows.entry(case.clone()).or_insert_with(|| {
                order.push(case.clone());
                Row {
                    about,
                    answers: [String::from("-"), String::from("-")],
                }
            });
            row.answers[usize::from(abi == Abi::Preview1)] = answer;
        }
    }
    compare(&page(&order, &rows));
    drop(registry);
    assert_eq!(
        fake.counters().live_graphs(),
        0,
        "models end with their registry"
    );
    assert_eq!(
        fake.counters().live_sessions(),
        0,
        "sessions end with their models"
    );
}

/// The cases of a guest: names, and what they do.
async fn cases(guest: &Guest, registry: &Arc<Registry>) -> Vec<(String, String)> {
    let listed = common::run(
        guest,
        common::instance(&["--list"], registry.clone()),
        Vec::new(),
    )
    .await;
    let cases: Vec<(String, String)> = listed
        .text()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
        })
        .collect();
    assert!(
        cases.len() > 60,
        "the guest lists its cases: {}",
        listed.text()
    );
    cases
}

/// Runs a case and whatever must be right after it.
async fn row(
    guest: &Guest,
    plain: &Guest,
    case: &str,
    registry: &Arc<Registry>,
    log: &Log,
) -> String {
    log.take();
    let ran = common::run(guest, instance(case, registry), stdin(case)).await;
    let answer = answer(case, &ran, &log.take());
    assert!(!ran.text().starts_with("wrong"), "{case}: {}", ran.text());
    if !matches!(ran.end, End::Exited(0)) {
        let next = common::run(plain, instance("right", registry), Vec::new()).await;
        assert!(
            matches!(next.end, End::Exited(0)),
            "{case}: a new instance afterwards: {:?}",
            next.end
        );
        assert!(next.text().contains("right: ok"), "{case}: {}", next.text());
    } else if !OF_WASI_ALONE.contains(&case) {
        assert!(
            ran.text().contains("right: ok"),
            "{case}: an inference afterwards: {}",
            ran.text()
        );
    }
    closed(case, &ran).await;
    answer
}

/// Cases after which the guest makes no inference.
const OF_WASI_ALONE: &[&str] = &[
    "host-read-outside",
    "host-write",
    "net-connect",
    "env-print",
    "args-print",
    "stdin-echo",
    "stderr-print",
];

fn instance(case: &str, registry: &Arc<Registry>) -> Instance {
    let (plain, variant) = case.split_once(", ").unwrap_or((case, ""));
    let args: Vec<&str> = std::iter::once(plain)
        .chain(arguments(case).iter().copied())
        .collect();
    let mut instance = common::instance(&args, registry.clone());
    instance.limits = limits(case);
    instance.grants.load = case != "load-not-allowed";
    instance.grants.devices = match variant {
        "granted" => vec![Device::Cpu, Device::Gpu(0), Device::Npu],
        _ => vec![Device::Cpu],
    };
    instance
}

/// The books of an instance are closed when it ended, or when the engine let go of its thread.
async fn closed(case: &str, ran: &Ran) {
    for _ in 0..600 {
        if ran.usage.bytes() == 0 && ran.usage.handles() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "{case}: {} bytes and {} handles are still held",
        ran.usage.bytes(),
        ran.usage.handles()
    );
}

fn answer(case: &str, ran: &Ran, log: &str) -> String {
    match &ran.end {
        End::Trapped(error) => format!("ends: {error}"),
        End::TimedOut(timeout) => format!("ends: its time of {timeout:?} is up"),
        End::Failed(error) => panic!("{case}: the host failed: {}", error.report()),
        End::Exited(status) => {
            assert_eq!(*status, 0, "{case}: {} {}", ran.text(), ran.stderr);
            let text = ran.text();
            let line = text
                .lines()
                .find(|line| line.starts_with("ok") || line.starts_with("err"))
                .unwrap_or("");
            match line.strip_prefix("err ") {
                Some(refused) if refused.starts_with("errno") => {
                    format!("{refused}: {}", logged(log))
                }
                Some(refused) => refused.replacen(' ', ": ", 1),
                None => "ok".to_owned(),
            }
        }
    }
}

/// The message of the last call that the log has, without the call and the errno.
fn logged(log: &str) -> String {
    let said = log
        .lines()
        .rev()
        .find_map(|line| line.split_once(" answers errno "));
    let text = said.and_then(|(_, answer)| answer.splitn(3, ": ").last());
    text.unwrap_or("nothing logged").trim().to_owned()
}

fn page(order: &[String], rows: &BTreeMap<String, Row>) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| case | what the guest does | component | preview1 |\n|---|---|---|---|\n");
    for case in order {
        let Row {
            about,
            answers: [component, preview1],
        } = &rows[case];
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        writeln!(
            page,
            "| `{case}` | {} | {} | {} |",
            cell(about),
            cell(component),
            cell(preview1)
        )
        .expect("a String");
    }
    page
}

fn compare(page: &str) {
    let path = common::root().join(PAGE);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(path, page).expect("writable");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differing: Vec<String> = page
        .lines()
        .filter(|line| !committed.lines().any(|known| known == *line))
        .map(|line| format!("  now: {line}"))
        .collect();
    assert!(
        page == committed,
        "{PAGE} is not what the host answers (BLESS=1 rewrites it):\n{}",
        differing.join("\n")
    );
}

/// What the host logs, for the ABI that has no messages.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn writer(&self) -> impl Fn() -> Log + Send + Sync + 'static {
        let log = self.clone();
        move || log.clone()
    }

    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
