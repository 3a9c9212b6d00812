//! What a guest is and imports, without running it.

use infer_core::{Error, ErrorKind, Result};
use wasmtime::Module;
use wasmtime::component::{Component, types::ComponentItem};

use crate::compiled::{self, Kind};
use crate::engine::Engine;

/// A guest's kind and imports.
#[derive(Clone, Debug)]
pub struct GuestDescription {
    /// Component or core module.
    pub kind: Kind,
    /// What it imports, in its own order.
    pub imports: Vec<Import>,
}

/// An interface, or a module of core functions, and what is imported of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The interface's or module's name.
    pub from: String,
    /// The names of functions and types.
    pub names: Vec<String>,
}

impl GuestDescription {
    /// Describes a component or core module.
    ///
    /// # Errors
    /// `InvalidEncoding` for bytes that are no valid guest; `Security` for compiled code, which cannot be
    /// looked into without trusting it.
    pub fn of(engine: &Engine, bytes: &[u8]) -> Result<GuestDescription> {
        let kind = compiled::kind(bytes)?;
        let refused = |error| compiled::refused(engine, bytes, &error);
        let wasmtime = engine.wasmtime();
        let imports = match kind {
            Kind::Component => imports_of_component(
                engine,
                &Component::from_binary(wasmtime, bytes).map_err(refused)?,
            ),
            Kind::Module => {
                imports_of_module(&Module::from_binary(wasmtime, bytes).map_err(refused)?)
            }
            Kind::Compiled => {
                let message = "compiled code cannot be looked into without trusting it";
                return Err(Error::new(ErrorKind::Security, message)
                    .with_hint("inspect the .wasm file that it was made from"));
            }
        };
        Ok(GuestDescription { kind, imports })
    }
}

fn imports_of_component(engine: &Engine, component: &Component) -> Vec<Import> {
    let wasmtime = engine.wasmtime();
    let ty = component.component_type();
    ty.imports(wasmtime)
        .map(|(name, import)| {
            let names = match import.ty {
                ComponentItem::ComponentInstance(instance) => instance
                    .exports(wasmtime)
                    .map(|(name, _)| name.to_owned())
                    .collect(),
                _ => Vec::new(),
            };
            Import {
                from: name.to_owned(),
                names,
            }
        })
        .collect()
}

fn imports_of_module(module: &Module) -> Vec<Import> {
    let mut imports: Vec<Import> = Vec::new();
    for import in module.imports() {
        let name = import.name().to_owned();
        match imports
            .iter_mut()
            .find(|known| known.from == import.module())
        {
            Some(known) => known.names.push(name),
            None => imports.push(Import {
                from: import.module().to_owned(),
                names: vec![name],
            }),
        }
    }
    imports
}
