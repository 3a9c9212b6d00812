//! Generates the types of the Open Inference Protocol's gRPC from its description, without `protoc`.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "serve")]
    if let Err(error) = generate() {
        println!("cargo::error=the protocol's description cannot be used: {error}");
    }
}

#[cfg(feature = "serve")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["grpc_service.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::serve::v2::codec::Bounded")
        // Tensors are slices of the message that they came in.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
