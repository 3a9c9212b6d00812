//! infer's backend on OpenVINO, which is loaded at run time: CPU, GPU and NPU.
//!
//! [`OpenVino`] finds the library (`library`), reads a model in any of four encodings and compiles it
//! with its own options (`load`, `options`), refuses what the engine is known to answer wrongly (`refuse`;
//! `rules` node by node, `wholes` and `operators` for whole numbers through a model) and runs it (`graph`,
//! `tensors`). `onnx` reads what of an ONNX file has to be known before the engine sees it, `files` and `ir`
//! keep a model to its own files. All calls of the C library are in `native` and `library`.
//!
//! A load cannot be stopped while the engine reads or compiles: a cancel is seen between its steps. A run
//! stops between the nodes of the graph, where its shapes are known beforehand.

mod checks;
mod constants;
mod describe;
mod devices;
mod graph;
mod ir;
mod library;
mod lite;
mod load;
mod native;
mod operators;
mod options;
mod parts;
mod refuse;
mod rules;
mod tensorflow;
mod tensors;
mod wholes;
mod words;

use std::sync::{Arc, OnceLock};

use infer_core::{
    Backend, Cancel, Candidates, Encoding, Error, ErrorKind, Graph, LoadRequest, Probe, Result,
    run_engine,
};

use crate::library::Engine;

/// The OpenVINO engine. Nothing is loaded until it is first asked for something.
#[derive(Debug)]
pub struct OpenVino {
    candidates: Candidates,
    engine: OnceLock<std::result::Result<&'static Engine, Remembered>>,
}

/// A failure that is told each time anew.
#[derive(Debug)]
struct Remembered {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl OpenVino {
    /// The engine whose library is the first of these that is there.
    ///
    /// A candidate that is missing is passed over, unless it is exclusive; one that is there and cannot be
    /// used is an error, and no later one stands in for it. One process has one library: the first that is
    /// loaded.
    pub fn new(candidates: impl Into<Candidates>) -> OpenVino {
        OpenVino {
            candidates: candidates.into(),
            engine: OnceLock::new(),
        }
    }

    fn engine(&self) -> Result<&'static Engine> {
        let engine = self.engine.get_or_init(|| {
            run_engine("openvino", || library::load(&self.candidates)).map_err(|error| Remembered {
                kind: error.kind(),
                message: error.report(),
                hint: error.hint().map(str::to_owned),
            })
        });
        match engine {
            Ok(engine) => Ok(engine),
            Err(failure) => {
                let error = Error::new(failure.kind, failure.message.as_str());
                Err(match &failure.hint {
                    Some(hint) => error.with_hint(hint.as_str()),
                    None => error,
                })
            }
        }
    }
}

impl Backend for OpenVino {
    fn name(&self) -> &'static str {
        "openvino"
    }

    fn probe(&self) -> Result<Probe> {
        let engine = self.engine()?;
        run_engine("openvino", || devices::probe(engine))
    }

    fn encodings(&self) -> &'static [Encoding] {
        load::ENCODINGS
    }

    fn load(&self, request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>> {
        request.expect_encoding(self.encodings())?;
        let engine = self.engine()?;
        run_engine("openvino", || load::load(engine, request, cancel))
    }
}
