//! One case of right or wrong use of wasi-nn per run: the guest behind the host's table of errors.
//!
//! `probe CASE [ARGUMENT...]` runs the case and prints one line:
//!
//! - `ok ...` when the host did it, and what came out was what had to;
//! - `err CODE MESSAGE` when the host refused: on the component ABI the code's name and the error's data, on
//!   preview1 `err errno N name`;
//! - `wrong ...` when the host did it wrongly.
//!
//! Then, unless the case is one of WASI alone, it runs the model `identity-f32` in the same instance and prints
//! `right: ok`, so that whatever came before is known to have left the host usable. `probe --list` prints a line
//! per case: its name, what is expected of it, and what it does, separated by tabs; each ABI lists its own.
//!
//! Steps: find the case in the tables of the modules; run it; print. It checks nothing that the host should
//! check. Exit status: 0 when a line `ok` or `err` was printed and `right: ok` after it, else 1.

mod case;
mod handles;
mod limits;
mod models;
mod onnx;
mod tensors;
mod wasi;

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
#[path = "component.rs"]
mod raw;
#[cfg(all(target_arch = "wasm32", target_env = "p1"))]
#[path = "preview1.rs"]
mod raw;
#[cfg(not(target_arch = "wasm32"))]
#[path = "native.rs"]
mod raw;

use case::{After, Case, Failure};
use std::process::ExitCode;

/// Every case of this ABI.
fn cases() -> impl Iterator<Item = &'static Case> {
    let tables = [
        tensors::CASES,
        models::CASES,
        handles::CASES,
        limits::CASES,
        raw::CASES,
        wasi::CASES,
    ];
    tables.into_iter().flatten()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((option, [])) if option == "--list" => {
            for case in cases() {
                println!("{}\t{}\t{}", case.name, case.expected.name(), case.about);
            }
            ExitCode::SUCCESS
        }
        Some((name, rest)) => match cases().find(|case| case.name == name) {
            Some(case) => run(case, rest),
            None => match name
                .strip_prefix("exit-")
                .and_then(|status| status.parse().ok())
            {
                Some(status) => std::process::exit(status),
                None => usage(),
            },
        },
        None => usage(),
    }
}

fn run(case: &Case, arguments: &[String]) -> ExitCode {
    let well = match (case.run)(arguments) {
        Ok(what) if what.is_empty() => say("ok", true),
        Ok(what) => say(&format!("ok {what}"), true),
        Err(Failure::Host(error)) => say(&format!("err {}", case::describe(&error)), true),
        Err(Failure::Wrong(what)) => say(&format!("wrong {what}"), false),
    };
    let right = match case.after {
        After::RightInference => match tensors::right() {
            Ok(_) => say("right: ok", true),
            Err(Failure::Host(error)) => {
                say(&format!("right: err {}", case::describe(&error)), false)
            }
            Err(Failure::Wrong(what)) => say(&format!("right: wrong {what}"), false),
        },
        After::Nothing => true,
    };
    if well && right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn say(line: &str, well: bool) -> bool {
    println!("{}", line.replace('\n', "\\n"));
    well
}

fn usage() -> ExitCode {
    eprintln!("error: expected a case, or exit-STATUS\nhint: `probe --list` lists the cases");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::cases;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = cases().map(|case| case.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
