//! A bundle: what is kept of one incident, as files in one `.tar.zst`.
//!
//! Pure, but for time and memory: packing takes a tenth of a second and holds all of it. What is read may come from
//! anywhere: it is bounded, and names are only names. Depends on nothing.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// What a diagnosis is made of again.
pub const FACTS: &str = "facts.json";
/// Where the processor's time went, for `pprof`.
pub const PROFILE: &str = "profile.pb.gz";
/// The same as a picture.
pub const FLAMEGRAPH: &str = "profile.svg";
/// The stacks that it draws, as text.
pub const FOLDED: &str = "profile.folded";

/// What a bundle unpacks to, at most.
const MAX_BYTES: u64 = 256 << 20;

/// Why something is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not compressed, or damaged.
    #[error("it is no .tar.zst: {0}")]
    Compression(#[from] FrameDecoderError),
    /// What it unpacks to is no archive, or damaged, or too much.
    #[error("it is no bundle, or damaged: {0}")]
    Archive(#[from] io::Error),
}

/// `files`, in this order, with the time `at` in seconds since the Unix epoch.
///
/// # Errors
/// When a name is too long to be one.
pub fn pack(files: &[(&str, Vec<u8>)], at: u64) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(at);
        archive.append_data(&mut header, name, &**content)?;
    }
    let archive = archive.into_inner()?;
    Ok(compress_to_vec(&*archive, CompressionLevel::Fastest))
}

/// The files of a bundle, by name.
///
/// # Errors
/// When it is none.
pub fn unpack(packed: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let decoder = StreamingDecoder::new(packed)?;
    let mut archive = tar::Archive::new(decoder.take(MAX_BYTES));
    let mut files = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(name, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_what_is_damaged_is_refused() {
        let long = vec![b'x'; 300_000];
        let files = [("incident.json", b"{}".to_vec()), ("long", long.clone())];
        let packed = pack(&files, 1_700_000_000).unwrap();
        assert!(packed.len() < 10_000, "{}", packed.len());
        let read = unpack(&packed).unwrap();
        assert_eq!(
            (&*read["incident.json"], &read["long"]),
            (&b"{}"[..], &long)
        );
        assert!(unpack(b"nothing of the kind").is_err());
        for cut in [5, packed.len() / 2, packed.len() - 20] {
            assert!(unpack(&packed[..cut]).is_err(), "{cut}");
        }
    }
}
