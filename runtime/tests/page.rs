//! The page for operators in a real browser: Debian's chromium, which scripts/get-browser brings.

mod common;

#[path = "common/observers.rs"]
mod observers;
#[path = "common/server.rs"]
mod server;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Abi, guest_path, root, test_model};
use serde_json::{Value, json};
use server::{Server, wait_for};

/// A browser, spoken to by its own protocol over a pair of pipes.
struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    /// What it logged of the page: refused parts, errors of the script.
    complaints: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Browser {
        let folder = root().join("target/browser");
        let program = folder.join("usr/lib/chromium/chromium");
        assert!(
            program.is_file(),
            "`{}` is missing: run scripts/get-browser, or skip it with INFER_SKIP_BROWSER=1",
            program.display()
        );
        let profile = tempfile::tempdir().expect("a folder");
        // It reads commands from descriptor 3 and answers on 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2"])
            .arg(&program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-extensions",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("LD_LIBRARY_PATH", libraries(&folder))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Browser {
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
            session: None,
            number: 0,
            complaints: Vec::new(),
            _profile: profile,
        }
    }

    /// Asks for something and waits for the answer.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input
            .write_all(format!("{message}\0").as_bytes())
            .expect("it reads");
        loop {
            let mut message = Vec::new();
            self.output.read_until(0, &mut message).expect("it writes");
            message.pop();
            let message: Value =
                serde_json::from_slice(&message).expect("it lives and speaks JSON");
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            let method = message["method"].as_str();
            if matches!(method, Some("Log.entryAdded" | "Runtime.exceptionThrown")) {
                self.complaints.push(message);
            }
        }
    }

    /// Opens a page.
    fn open(&mut self, address: &str) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Log", "Runtime", "Page"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.call("Page.navigate", json!({ "url": address }));
    }

    /// Makes the screen so large, in the units of CSS.
    fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": scheme }));
    }

    /// The value of an expression of JavaScript.
    fn value(&mut self, expression: &str) -> Value {
        let evaluate = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", evaluate);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!(
            "document.querySelector({selector:?})?.textContent ?? ''"
        ));
        text.as_str().expect("a text").to_owned()
    }

    /// Waits until an expression is true; panics if that takes very long.
    fn wait_until(&mut self, expression: &str) {
        let browser = std::cell::RefCell::new(self);
        wait_for(expression, || {
            browser.borrow_mut().value(expression) == true
        });
    }

    /// The page as a picture, PNG in base64.
    fn picture(&mut self) -> String {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        picture["data"].as_str().expect("a picture").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folders of libraries below the browser's.
fn libraries(folder: &Path) -> String {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        for found in std::fs::read_dir(folder.join(parent)).into_iter().flatten() {
            let path = found.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if name.ends_with("-linux-gnu") {
                folders.push(path.join("pulseaudio"));
                folders.push(path);
            }
        }
    }
    let paths: Vec<_> = folders.iter().map(|path| path.to_string_lossy()).collect();
    paths.join(":")
}

/// Asks a server for something until told to stop.
fn load(server: &Server, stop: &AtomicBool) {
    let input: Vec<u8> = [1.5f32, -2.0, 0.25, 8.0, 1e9, -0.5]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    while !stop.load(Ordering::Relaxed) {
        let answer = server.post("/compute/identity-f32/x/6", &input);
        assert_eq!(answer.status, 200, "{}", answer.text());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_page_shows_what_a_server_does_now() {
    if observers::browser_is_skipped("the page") {
        return;
    }
    let (guest, model) = (
        guest_path("faults", Abi::Component),
        test_model("identity-f32"),
    );
    let (guest, model) = (guest.to_string_lossy(), model.to_string_lossy());
    let server = Server::start(&[
        &guest,
        "--model",
        &model,
        "--backend",
        "tract",
        "--timeout",
        "1s",
    ]);
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", server.metrics));
    browser.screen(1000, 900, "light");
    browser.wait_until("document.querySelector('#ready')?.textContent === 'ready'");
    let card = browser.text("#models [data-name='identity-f32']");
    assert!(card.contains("tract, cpu, f32, no batches"), "{card}");
    assert_eq!(
        browser.text("#guests [data-name='faults'] [data-key=p50]"),
        "–",
        "nothing has come"
    );
    assert_eq!(browser.text("#errors"), "none");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The load ends where the test fails, too.
        let end = Stop(&stop);
        for _ in 0..2 {
            scope.spawn(|| load(&server, &stop));
        }
        assert_eq!(server.get("/trap").status, 500);
        assert_eq!(server.get("/loop").status, 504);
        for kind in ["models", "guests"] {
            for key in ["rate", "p50", "p95"] {
                // Numbers appear,
                browser.wait_until(&format!(
                    "/^[1-9]/.test(document.querySelector('#{kind} [data-key={key}]').textContent)"
                ));
            }
        }
        for shown in ["#models [data-key=total]", "#guests [data-key=ok]"] {
            // and change.
            let before = browser.text(shown);
            browser.wait_until(&format!(
                "document.querySelector({shown:?}).textContent !== {before:?}"
            ));
        }
        browser.wait_until("document.querySelectorAll('#errors li').length === 2");
        let errors = browser.text("#errors");
        assert!(
            errors.contains("trapped") && errors.contains("timeout"),
            "{errors}"
        );
        keep(&browser.picture());
        drop(end);
    });
    for (width, scheme) in [(320, "dark"), (360, "light"), (1100, "dark")] {
        browser.screen(width, 740, scheme);
        let across = browser
            .value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(across, 0, "nothing is cut or has to be scrolled at {width}");
        let cut = browser.value("[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length");
        assert_eq!(cut, 0, "at {width}");
        let low = browser.value(CONTRAST).as_f64().expect("a number");
        assert!(low >= 4.5, "the contrast of texts is {low} in {scheme}");
    }
    // A server that is gone is told.
    drop(server);
    browser.wait_until("document.querySelector('#ready').textContent.startsWith('no answer')");
    let others = |complaint: &&Value| {
        let text = complaint.to_string();
        !text.contains("ERR_CONNECTION_REFUSED") && !text.contains("ERR_CONNECTION_RESET")
    };
    let complaints: Vec<&Value> = browser.complaints.iter().filter(others).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// The least contrast of a text with what is behind it, by WCAG's formula.
const CONTRAST: &str = "(() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = parts(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter(e => e.tagName !== 'SCRIPT'
    && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  return Math.min(...texts.map(e => {
    const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()";

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// With BLESS=1, puts the picture of the page into the manual.
fn keep(picture: &str) {
    if std::env::var_os("BLESS").is_some_and(|value| !value.is_empty()) {
        use base64::Engine as _;
        let picture = base64::prelude::BASE64_STANDARD.decode(picture);
        let path = root().join("docs/serving/page.png");
        std::fs::write(path, picture.expect("base64")).expect("writable");
    }
}

#[test]
fn nothing_that_the_server_says_becomes_markup() {
    if observers::browser_is_skipped("the page") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // What cannot be loaded is said on the page, with the file's name.
    let name = "<img src=x onerror=document.title=1>.onnx";
    std::fs::write(folder.path().join(name), "no model").expect("writable");
    let file = folder.path().join("infer.toml");
    let text = format!("[server]\nlazy = true\n[model.m]\nref = {name:?}\n");
    std::fs::write(&file, text).expect("writable");
    let server = Server::start(&["--config", &file.to_string_lossy()]);
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", server.metrics));
    browser.wait_until("document.querySelector('#models .state')?.textContent === 'failed'");
    let said = browser.text("#models");
    assert!(said.contains("<img src=x"), "{said}");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.text("#ready"), "not ready");
}
