//! A server as a person starts it: `infer serve` as a process of its own, on free ports.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A server that runs until it is dropped.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT` of HTTP, gRPC and metrics.
    pub http: String,
    pub grpc: String,
    pub metrics: String,
    log: Arc<Mutex<String>>,
}

/// An answer by HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Server {
    /// Starts `infer serve ARGS` and waits until it listens.
    pub fn start(args: &[&str]) -> Server {
        Server::try_start(args).unwrap_or_else(|log| panic!("it listens, but said:\n{log}"))
    }

    /// The same; gives what it said instead where it ends before it listens.
    pub fn try_start(args: &[&str]) -> Result<Server, String> {
        let any = ["--http", "--grpc", "--metrics"]
            .into_iter()
            .filter(|option| !args.contains(option))
            .flat_map(|option| [option, "127.0.0.1:0"]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_infer"))
            .arg("serve")
            .args(any)
            .args(args)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let (mut addresses, mut said) = (Vec::new(), String::new());
        while addresses.len() < 3 {
            let mut line = String::new();
            if lines.read_line(&mut line).expect("readable") == 0 {
                child.wait().expect("it ended");
                return Err(said);
            }
            if let Some((_, rest)) = line.split_once(" on 127.0.0.1:") {
                // More follows where the log is in JSON.
                let port = rest.split(|c: char| !c.is_ascii_digit()).next();
                addresses.push(format!("127.0.0.1:{}", port.unwrap_or_default()));
            }
            said.push_str(&line);
        }
        let log = Arc::new(Mutex::new(said));
        let kept = log.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = lines.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..length]);
                kept.lock().expect("no panic").push_str(&text);
            }
        });
        let [http, grpc, metrics] = addresses.try_into().expect("three");
        Ok(Server {
            child,
            http,
            grpc,
            metrics,
            log,
        })
    }

    /// What it has written to its standard error.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits until the log has this; panics if that takes very long.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.log().contains(text));
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[])
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, body)
    }

    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.try_send(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// An answer, or what went wrong with the connection.
    pub fn try_send(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.http))
            .body(body)
            .expect("a request");
        send(request)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("a process");
        let id = rustix::process::Pid::from_raw(id).expect("above 0");
        rustix::process::kill_process(id, signal).expect("it lives");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request; a status that stands for a failure is an answer too.
pub fn send(request: ureq::http::Request<&[u8]>) -> Result<Answer, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(120)))
        .build()
        .into();
    let (parts, mut body) = agent.run(request)?.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.with_config().limit(1 << 30).read_to_vec()?,
    })
}

/// Waits until something is so; panics if that takes very long.
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
