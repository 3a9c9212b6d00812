//! Throwaway: runs one model on tract; `cases MODEL INPUTS OUTPUTS` in a simple binary format.
#![allow(
    missing_docs,
    clippy::all,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "throwaway"
)]
use infer_core::*;
use infer_tract::Tract;
use std::io::Write;

const DTYPES: [Dtype; 14] = [
    Dtype::F16,
    Dtype::F32,
    Dtype::F64,
    Dtype::BF16,
    Dtype::U8,
    Dtype::I32,
    Dtype::I64,
    Dtype::Bool,
    Dtype::I8,
    Dtype::I16,
    Dtype::U16,
    Dtype::U32,
    Dtype::U64,
    Dtype::String,
];

fn u64_at(b: &[u8], at: &mut usize) -> u64 {
    let v = u64::from_le_bytes(b[*at..*at + 8].try_into().unwrap());
    *at += 8;
    v
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    std::panic::set_hook(Box::new(|info| {
        if !in_engine() {
            println!("ESCAPED {info}");
        }
    }));
    let request = LoadRequest {
        source: Source::Files(vec![args[1].clone().into()]),
        encoding: Encoding::Onnx,
        device: Device::Cpu,
    };
    let fail = |step: &str, e: Error| -> ! {
        println!(
            "{step} {} {}",
            e.kind().name(),
            e.report().replace('\n', " ")
        );
        std::process::exit(1)
    };
    let graph = match Tract.load(&request, &Cancel::default()) {
        Ok(g) => g,
        Err(e) => fail("LOAD", e),
    };
    let blob = std::fs::read(&args[2]).unwrap();
    let mut at = 0;
    let mut named = vec![];
    while at < blob.len() {
        let n = u64_at(&blob, &mut at) as usize;
        let name = String::from_utf8(blob[at..at + n].to_vec()).unwrap();
        at += n;
        let dtype = DTYPES[u64_at(&blob, &mut at) as usize];
        let rank = u64_at(&blob, &mut at) as usize;
        let shape: Vec<usize> = (0..rank).map(|_| u64_at(&blob, &mut at) as usize).collect();
        let len = u64_at(&blob, &mut at) as usize;
        let t = Tensor::copied_from(dtype, shape, &blob[at..at + len]).unwrap();
        at += len;
        named.push((name, t));
    }
    let inputs = match graph.signature().arrange(named) {
        Ok(i) => i,
        Err(e) => fail("ARRANGE", e),
    };
    let mut session = match run_engine("tract", || graph.session()) {
        Ok(s) => s,
        Err(e) => fail("SESSION", e),
    };
    let mut last = None;
    for _ in 0..2 {
        let mut calls = [Call::new(inputs.clone(), Cancel::default())];
        if let Err(e) = run_engine("tract", || {
            session.run(&mut calls);
            Ok(())
        }) {
            fail("RUN", e);
        }
        let [call] = calls;
        match call.result.unwrap() {
            Ok(o) => {
                let bytes: Vec<_> = o.iter().map(|t| t.host().unwrap()).collect();
                if let Some((_, b)) = &last {
                    if *b != bytes {
                        println!("UNSTABLE outputs differ from run to run");
                    }
                }
                last = Some((o, bytes));
            }
            Err(e) => fail("RUN", e),
        }
    }
    let mut out = std::fs::File::create(&args[3]).unwrap();
    let (outs, _) = last.unwrap();
    for (info, t) in graph.signature().outputs.iter().zip(outs) {
        if !info.accepts(t.dtype(), t.shape()) {
            println!("SIGNATURE {} declared {info} got {t:?}", info.name);
        }
        let put = |out: &mut std::fs::File, v: u64| out.write_all(&v.to_le_bytes()).unwrap();
        put(&mut out, info.name.len() as u64);
        out.write_all(info.name.as_bytes()).unwrap();
        put(
            &mut out,
            DTYPES.iter().position(|d| *d == t.dtype()).unwrap() as u64,
        );
        put(&mut out, t.shape().len() as u64);
        for d in t.shape() {
            put(&mut out, *d as u64);
        }
        put(&mut out, t.byte_length() as u64);
        out.write_all(&t.host().unwrap()).unwrap();
    }
    println!("OK");
}
