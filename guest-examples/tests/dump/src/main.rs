//! Writes the raw output tensor of a picture model, so that hosts and ABIs can be compared bit for bit.
//!
//! `dump [the flags of classify] PHOTO > OUTPUT`. It instantiates on any host, also one that knows no `#info`
//! and one model only; with `--no-info` and flags for the preparation every host gets the same input.

use infer_imaging::{Flags, PictureModel};
use lexopt::{Arg, Parser, ValueExt};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match dump() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dump() -> Result<(), Box<dyn Error>> {
    let mut parser = Parser::from_env();
    let mut flags = Flags::default();
    let mut photo = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long(option) => {
                let option = option.to_owned();
                if !flags.take(&option, &mut parser)? {
                    return Err(Arg::Long(&option).unexpected().into());
                }
            }
            Arg::Value(path) if photo.is_none() => photo = Some(path.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let photo = fs::read(photo.ok_or("expected a photo")?)?;
    let output = PictureModel::open(&flags)?.run(&photo)?;
    io::stdout().write_all(output.bytes())?;
    Ok(())
}
