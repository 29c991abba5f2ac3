//! Generates the gRPC service from its `.proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "proto/enfilade/cluster/v1/metadata.proto";
    println!("cargo::rerun-if-changed={proto}");
    let files = protox::compile([proto], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
