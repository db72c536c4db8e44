//! Compiles `proto/` without protoc: once as it stands, for reflection, and once with `records`
//! as bytes, for the code: a record is never decoded on its way through the server. And lists the
//! files of the page, where `make web` built it: neither npm nor a crate is needed for that.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

const FILES: [&str; 3] = [
    "ringfeed/v1/record.proto",
    "ringfeed/v1/catalog.proto",
    "ringfeed/v1/feed.proto",
];

/// Where Vite puts the page. The directory is always there, so that cargo can watch it.
const PAGE: &str = "web/dist";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = protox::compile(FILES, ["proto"])?;
    println!("cargo::rerun-if-changed={PAGE}");
    fs::write(out.join("page.rs"), page()?)?;
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

/// A slice of `File`s for `server/web.rs`; empty when the page was not built.
fn page() -> Result<String, Box<dyn Error>> {
    let root = env::current_dir()?.join(PAGE);
    let mut list = String::from("&[");
    for path in files(&root)? {
        let name = path
            .strip_prefix(&root)?
            .to_str()
            .ok_or("a path that is no text")?;
        if name.starts_with('.') {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        fs::read(&path)?.hash(&mut hasher);
        let tag = hasher.finish();
        write!(
            list,
            "File {{ path: {name:?}, tag: \"\\\"{tag:016x}\\\"\", bytes: include_bytes!({path:?}) }},"
        )?;
    }
    Ok(list + "]")
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
