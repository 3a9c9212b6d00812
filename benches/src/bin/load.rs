//! `load`: puts a server under load, checks every answer, and prints what it saw as one line of JSON.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use infer_benches::measure;
use infer_benches::serving::load::request::{Made, Protocol, Work};
use infer_benches::serving::load::{Expected, Plan, Target, learn, run};
use infer_benches::serving::work::shape;

/// Puts a server under load and checks every answer
#[derive(Parser)]
struct Cli {
    /// What the server speaks
    protocol: Protocol,
    /// Where it listens
    address: SocketAddr,
    /// The model's name
    model: String,
    /// The name of its input, which is f32
    input: String,
    /// The input's dimensions, as `1x3x224x224`
    shape: String,
    /// How many different requests there are
    #[arg(long, default_value = "4")]
    requests: NonZeroUsize,
    /// Send each request once and print the places of the largest values, as `--places` takes them
    #[arg(long, conflicts_with_all = ["places", "echo"])]
    learn: bool,
    /// The place of the largest value that each request must be answered
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["learn", "echo"])]
    places: Vec<usize>,
    /// Expect the values that are sent
    #[arg(long, conflicts_with = "places")]
    echo: bool,
    /// Requests at one time; with `--rate`, at most
    #[arg(long, default_value = "1")]
    connections: NonZeroUsize,
    /// How long requests are sent
    #[arg(long, default_value = "2s", value_parser = measure::duration)]
    duration: Duration,
    /// Send so many requests a second, whatever the server does
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
}

/// Up to one request in a microsecond.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    let rate = rate.filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| format!("expected requests a second, got `{text}`"))
}

fn main() -> ExitCode {
    match answer(Cli::parse()) {
        Ok(line) => {
            print(&line);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a command")]
fn print(line: &str) {
    println!("{line}");
}

#[allow(clippy::print_stderr, reason = "a command")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn answer(cli: Cli) -> anyhow::Result<String> {
    let work = Work {
        shape: shape(&cli.shape)?,
        model: cli.model,
        input: cli.input,
    };
    let made = (0..cli.requests.get()).map(|number| Made::new(cli.protocol, &work, number));
    let target = Target {
        address: cli.address,
        protocol: cli.protocol,
        made: Arc::new(made.collect::<anyhow::Result<_>>()?),
    };
    let plan = Plan {
        connections: cli.connections,
        duration: cli.duration,
        rate: cli.rate,
        expected: if cli.echo {
            Expected::Echo
        } else {
            Expected::Places(Arc::new(cli.places))
        },
    };
    // One thread: a client should leave the processors to the server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if cli.learn {
            let places = learn(&target).await?;
            let places: Vec<String> = places.iter().map(usize::to_string).collect();
            return Ok(places.join(","));
        }
        Ok(serde_json::to_string(&run(&target, &plan).await?)?)
    })
}
