//! Compiles `proto/` without protoc: once as it stands, for reflection, and once with `records`
//! as bytes, for the code: a record is never decoded on its way through the server.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

const FILES: [&str; 3] = [
    "ringfeed/v1/record.proto",
    "ringfeed/v1/catalog.proto",
    "ringfeed/v1/feed.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = protox::compile(FILES, ["proto"])?;
    fs::write(out.join("ringfeed.bin"), files.encode_to_vec())?;
    records_as_bytes(&mut files);
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}

/// A length-delimited message and `bytes` are the same on the wire, so every
/// `repeated Record records` can be read and written as `Vec<Bytes>`.
fn records_as_bytes(files: &mut FileDescriptorSet) {
    let fields = files
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .flat_map(|message| &mut message.field)
        .filter(|field| field.type_name() == ".ringfeed.v1.Record");
    for field in fields {
        field.set_type(Type::Bytes);
        field.type_name = None;
    }
}
