//! No ABI: on a native target there is no host to ask, and every call says so.
//!
//! It exists so that a guest's pure functions can be tested where they are written.

#![allow(
    missing_docs,
    reason = "the same items as the two ABIs, which document them"
)]

use super::{Argument, Encoding, Fetched, Target, View};
use crate::error::{Code, Error, Result};
use crate::transform::DataType;
use std::marker::PhantomData;

/// Whether inputs are told apart by position.
pub const BY_POSITION: bool = false;

#[derive(Debug)]
pub struct Graph(());

impl Graph {
    pub fn load(_parts: &[&[u8]], _encoding: Encoding, _target: Target) -> Result<Graph> {
        no_host()
    }

    pub fn by_name(_name: &str) -> Result<Graph> {
        no_host()
    }

    pub fn context(&self) -> Result<Context> {
        no_host()
    }

    pub fn close(self) -> Result<()> {
        no_host()
    }
}

#[derive(Debug)]
pub struct Context(());

impl Context {
    pub fn compute(&mut self, _arguments: &[Argument<'_>]) -> Result<Results<'_>> {
        no_host()
    }

    pub fn compute_remote(
        &mut self,
        _tensors: Vec<(String, Remote)>,
    ) -> Result<Vec<(String, Remote)>> {
        no_host()
    }

    pub fn close(self) -> Result<()> {
        no_host()
    }
}

/// There is none.
#[derive(Debug)]
pub enum Remote {}

impl Remote {
    pub fn send(_view: &View<'_>) -> Result<Remote> {
        no_host()
    }

    pub fn send_strings(_dimensions: &[u32], _data: &[u8]) -> Result<Remote> {
        no_host()
    }

    pub fn data_type(&self) -> DataType {
        match *self {}
    }

    pub fn dimensions(&self) -> Vec<u32> {
        match *self {}
    }

    pub fn data(&self) -> Vec<u8> {
        match *self {}
    }
}

pub struct Results<'context>(PhantomData<&'context mut Context>);

impl Results<'_> {
    pub fn names(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        None::<std::iter::Empty<&str>>
    }

    pub fn fetch(&self, _index: u32, _expected: Option<usize>) -> Result<Fetched> {
        no_host()
    }

    pub fn bytes(&self, _index: u32, _expected: usize) -> Result<Vec<u8>> {
        no_host()
    }
}

fn no_host<T>() -> Result<T> {
    Err(Error::new(
        Code::UnsupportedOperation,
        "a native build has no wasi-nn host; build for wasm32-wasip2",
    ))
}
