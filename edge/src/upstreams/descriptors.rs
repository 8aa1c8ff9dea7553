//! Descriptor sets: read from files, put together from several upstreams.
//!
//! They are put together as bytes: decoding them to messages and back would lose the options that give a method its path.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};
use prost_types::FileDescriptorProto;

/// The field `file` of `google.protobuf.FileDescriptorSet`.
const FILE: u32 = 1;

/// The largest set, in bytes.
const SET_BYTES_MAX: u64 = 64 << 20;

/// What tells one version of a file from the next without reading it. A link that points elsewhere changes it, too, which is how Kubernetes replaces
/// what it mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Version {
    /// The version that is there now; `None` when there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;

        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

/// The set in a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Bytes> {
    let length = std::fs::metadata(path)
        .with_context(|| format!("the descriptor set {} cannot be read", path.display()))?
        .len();
    if length > SET_BYTES_MAX {
        bail!("the descriptor set {} is larger than 64 MiB", path.display());
    }
    let bytes = std::fs::read(path)
        .with_context(|| format!("the descriptor set {} cannot be read", path.display()))?;
    Ok(Bytes::from(bytes))
}

/// The set of these files, each an encoded `FileDescriptorProto`.
pub(crate) fn set_of<'a>(files: impl IntoIterator<Item = &'a Bytes>) -> Vec<u8> {
    let mut set = Vec::new();
    for file in files {
        encode_key(FILE, WireType::LengthDelimited, &mut set);
        encode_varint(u64::try_from(file.len()).unwrap_or(u64::MAX), &mut set);
        set.extend_from_slice(file);
    }
    set
}

/// One set of several. Files of one name must be the same, comments aside, but for those of Google's, of which every project has a version of its
/// own: there the first counts.
///
/// # Errors
///
/// A set is malformed, or two have different files of one name.
pub(crate) fn merged<'a>(sets: impl IntoIterator<Item = &'a Bytes>) -> anyhow::Result<Vec<u8>> {
    let mut names: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
    let mut files = Vec::new();
    for set in sets {
        for file in files_of(set)? {
            let mut decoded =
                FileDescriptorProto::decode(file.clone()).context("the descriptor set is malformed")?;
            decoded.source_code_info = None;
            let name = decoded.name().to_owned();
            match names.get(&name) {
                None => {
                    names.insert(name, decoded);
                    files.push(file);
                }
                Some(known) if *known == decoded || name.starts_with("google/") => {}
                Some(_) => bail!("two upstreams have different files `{name}`"),
            }
        }
    }
    Ok(set_of(&files))
}

fn files_of(set: &Bytes) -> anyhow::Result<Vec<Bytes>> {
    const MALFORMED: &str = "the descriptor set is malformed";
    let mut rest = set.clone();
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).context(MALFORMED)?;
        if tag == FILE && wire_type == WireType::LengthDelimited {
            let length = prost::encoding::decode_varint(&mut rest).context(MALFORMED)?;
            let length = usize::try_from(length).context(MALFORMED)?;
            if length > rest.len() {
                bail!(MALFORMED);
            }
            files.push(rest.split_to(length));
        } else {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default()).context(MALFORMED)?;
        }
    }
    Ok(files)
}
