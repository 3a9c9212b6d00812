//! Child processes that run cases, so that an engine that crashes or hangs costs one case.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;

use crate::conformance::judge::outcome;
use crate::conformance::worker::MARK;
use crate::conformance::{About, Case, Outcome, Route, Stopped, Verdict};

/// How long a case may take, loading included.
const TIME_LIMIT: Duration = Duration::from_secs(90);

/// What all cases of one backend and route have in common.
pub struct Job {
    /// The route.
    pub route: Route,
    /// The backend.
    pub backend: String,
    /// The folder of the tests.
    pub data: PathBuf,
    /// The folder of built guests.
    pub guests: PathBuf,
}

/// Runs the cases, so many at one time; `done` hears of each. The outcomes are in the order of the cases.
///
/// # Errors
/// Where a child does not start.
pub fn run(
    job: &Job,
    cases: &[Case],
    processes: usize,
    done: &(dyn Fn(&Outcome) + Sync),
) -> anyhow::Result<Vec<Outcome>> {
    let waiting: Mutex<VecDeque<&Case>> = Mutex::new(cases.iter().collect());
    let next = || waiting.lock().ok()?.pop_front();
    let outcomes: anyhow::Result<Vec<Vec<Outcome>>> = std::thread::scope(|scope| {
        let workers = (0..processes.max(1)).map(|_| scope.spawn(|| serve(job, &next, done)));
        let workers: Vec<_> = workers.collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .map(|result| result.unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
            .collect()
    });
    let mut outcomes: Vec<Outcome> = outcomes?.into_iter().flatten().collect();
    outcomes.sort_by(|a, b| a.case.cmp(&b.case));
    Ok(outcomes)
}

fn serve<'a>(
    job: &Job,
    next: &dyn Fn() -> Option<&'a Case>,
    done: &dyn Fn(&Outcome),
) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut worker = None;
    while let Some(case) = next() {
        let mut running = match worker.take() {
            Some(running) => running,
            None => Worker::start(job)?,
        };
        let outcome = match running.ask(case) {
            Ok(outcome) => {
                worker = Some(running);
                outcome
            }
            Err(stopped) => outcome(case, About::read(&case.model()).ok().as_ref(), stopped),
        };
        done(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

struct Worker {
    child: Child,
    names: ChildStdin,
    lines: Receiver<String>,
}

impl Worker {
    fn start(job: &Job) -> anyhow::Result<Worker> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args([
                "worker",
                "--route",
                job.route.name(),
                "--backend",
                &job.backend,
            ])
            .arg("--data")
            .arg(&job.data)
            .arg("--guests")
            .arg(&job.guests)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let (Some(names), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            anyhow::bail!("a worker has no pipes");
        };
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if let Some(line) = line.strip_prefix(MARK)
                    && send.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        // What engines say there is in their errors too; a full pipe would stop them.
        std::thread::spawn(move || std::io::copy(&mut { stderr }, &mut std::io::sink()));
        Ok(Worker {
            child,
            names,
            lines,
        })
    }

    /// Has a case run; after an error the worker is gone.
    fn ask(&mut self, case: &Case) -> Result<Outcome, Stopped> {
        let asked = writeln!(self.names, "{}", case.name).and_then(|()| self.names.flush());
        let answer = match asked {
            Ok(()) => self.lines.recv_timeout(TIME_LIMIT),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(line) => serde_json::from_str(&line).map_err(Stopped::failed),
            Err(RecvTimeoutError::Timeout) => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                Err(Stopped::new(
                    Verdict::TimedOut,
                    format!("over {} s", TIME_LIMIT.as_secs()),
                ))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_err(Stopped::failed)?;
                Err(Stopped::new(Verdict::Crashed, ended(status)))
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("the process ended by signal {signal}"),
        (_, Some(code)) => format!("the process ended with status {code}"),
        _ => "the process ended".to_owned(),
    }
}
