//! Guests compiled ahead of time: native code in a file, made by [`compile`] and taken only when trusted, or when it
//! comes out of this user's own cache.
//!
//! One of this crate's two files with `unsafe`: wasmtime checks version, processor and settings of compiled
//! code, but nothing could check the code itself.

use std::fs::File;
use std::os::fd::AsRawFd;

use infer_core::{Error, ErrorKind, Result};
use wasmparser::{Validator, WasmFeatures};
use wasmtime::Module;
use wasmtime::Precompiled;
use wasmtime::component::Component;

use crate::engine::Engine;
use crate::guest::text;

/// What kind of guest some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WebAssembly component.
    Component,
    /// A WebAssembly core module.
    Module,
    /// Either, compiled to native code.
    Compiled,
}

pub(crate) enum Compiled {
    Component(Component),
    Module(Module),
}

/// Tells guests apart by their first bytes.
///
/// # Errors
/// `InvalidEncoding` for anything that is no guest, with what it looks like.
pub fn kind(bytes: &[u8]) -> Result<Kind> {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    if bytes.starts_with(COMPONENT) {
        return Ok(Kind::Component);
    }
    if bytes.starts_with(MODULE) {
        return Ok(Kind::Module);
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Ok(Kind::Compiled);
    }
    let (got, hint) = match infer_models::Content::of_bytes(bytes) {
        infer_models::Content::Unknown if bytes.starts_with(b"\0asm") => (
            "WebAssembly of a version that is not supported".to_owned(),
            "build it with a current compiler",
        ),
        infer_models::Content::Unknown if bytes.trim_ascii_start().starts_with(b"(") => (
            "WebAssembly text".to_owned(),
            "convert it with `wat2wasm` or `wasm-tools parse`",
        ),
        infer_models::Content::Model(encoding) => (
            format!("a model ({encoding})"),
            "the guest comes first, models follow --model",
        ),
        other => (
            other.to_string(),
            "build a guest for wasm32-wasip2 or wasm32-wasip1",
        ),
    };
    let message = format!("expected a WebAssembly component or core module, got {got}");
    Err(Error::new(ErrorKind::InvalidEncoding, message).with_hint(hint))
}

/// Compiles a component or a core module to native code for this processor and this engine's settings.
///
/// # Errors
/// `InvalidEncoding` for bytes that are no valid guest.
pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>> {
    let wasmtime = engine.wasmtime();
    let compiled = match kind(bytes)? {
        Kind::Component => wasmtime.precompile_component(bytes),
        Kind::Module => wasmtime.precompile_module(bytes),
        Kind::Compiled => {
            let message = "the guest is compiled already";
            return Err(Error::new(ErrorKind::InvalidEncoding, message));
        }
    };
    compiled.map_err(|error| refused(engine, bytes, &error))
}

/// Why wasmtime did not take some WebAssembly.
pub(crate) fn refused(engine: &Engine, bytes: &[u8], error: &wasmtime::Error) -> Error {
    if let Some(error) = too_large(engine, error) {
        return error;
    }
    let everything = Validator::new_with_features(WasmFeatures::all()).validate_all(bytes);
    let refused = match everything {
        Ok(_) => Error::new(
            ErrorKind::UnsupportedOperation,
            "the guest needs what infer does not have of WebAssembly",
        )
        .with_hint("docs/guests.md says what it has; most compilers can do without the rest"),
        Err(_) => Error::new(
            ErrorKind::InvalidEncoding,
            "the guest is not valid WebAssembly",
        ),
    };
    refused.with_source(text(error))
}

/// What an engine with a pool says of a guest that needs more than an instance in it has.
fn too_large(engine: &Engine, error: &wasmtime::Error) -> Option<Error> {
    engine.config().instances?;
    let text = text(error);
    let limits = [
        "per-instance limit",
        "configured maximum",
        "which exceeds the limit of",
    ];
    limits.iter().any(|limit| text.contains(limit)).then(|| {
        let message = "the guest needs more memories, tables or instances than it may have";
        Error::new(ErrorKind::UnsupportedOperation, message)
            .with_source(text)
            .with_hint("docs/guests.md has the limits; those of `infer run` are wider than those of servers")
    })
}

/// Takes compiled code that the caller vouches for.
#[allow(
    unsafe_code,
    reason = "compiled code is native code, which the caller vouches for"
)]
pub(crate) fn trust(engine: &Engine, bytes: &[u8]) -> Result<Compiled> {
    let wasmtime = engine.wasmtime();
    // SAFETY: the caller of `Guest::trust_compiled` vouches that the bytes came out of `compile` unchanged;
    // wasmtime checks that version, processor and settings are this engine's.
    let compiled = match wasmtime::Engine::detect_precompiled(bytes) {
        Some(Precompiled::Component) => {
            unsafe { Component::deserialize(wasmtime, bytes) }.map(Compiled::Component)
        }
        Some(Precompiled::Module) => {
            unsafe { Module::deserialize(wasmtime, bytes) }.map(Compiled::Module)
        }
        None => {
            let message = "expected a guest that `infer compile` made, got something else";
            return Err(Error::new(ErrorKind::InvalidEncoding, message));
        }
    };
    compiled.map_err(|error| {
        too_large(engine, &error).unwrap_or_else(|| {
            Error::new(ErrorKind::UnsupportedOperation, "the compiled guest does not fit this infer")
                .with_source(text(&error))
                .with_hint("compile it again with `infer compile`, on this processor and with the same --fuel setting")
        })
    })
}

/// Maps a file of [`GuestCache`](crate::GuestCache): pages are read when they are touched, and memories of the guest
/// begin as copies of them.
#[allow(
    unsafe_code,
    reason = "compiled code is native code, which the cache vouches for"
)]
pub(crate) fn map(engine: &Engine, kind: Kind, file: File) -> wasmtime::Result<Compiled> {
    let wasmtime = engine.wasmtime();
    // The path of an open file leads to that very file, whatever its name has come to mean.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match kind {
        // SAFETY: the cache gives only files that this user's infer wrote from what the compiler made, in a folder and
        // of a mode by which nobody else can write them, with the digest that was written with them; a file is never
        // changed or cut once it has its name, only replaced by another. wasmtime checks version, processor and settings.
        Kind::Component => {
            unsafe { Component::deserialize_file(wasmtime, path) }.map(Compiled::Component)
        }
        // SAFETY: as above.
        _ => unsafe { Module::deserialize_file(wasmtime, path) }.map(Compiled::Module),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineConfig;

    #[test]
    fn what_infer_does_not_have_is_told_from_what_is_not_valid() {
        let engine = Engine::new(&EngineConfig::default()).expect("an engine");
        let cases = [
            ("(module (tag))", "does not have"),
            ("(module (type (struct)))", "does not have"),
            ("(module (memory 1 1 shared))", "does not have"),
            ("(module (func (result i32)))", "is not valid"),
        ];
        for (text, expected) in cases {
            let bytes = wat::parse_str(text).expect("text");
            let error = compile(&engine, &bytes).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
