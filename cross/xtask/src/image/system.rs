//! The system of an image as a file that gateways are updated with.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use edge_core::boot::Version;
use sync_protocol::limits::SYSTEM_BYTES_MAX;
use sync_protocol::system_file::{Header, Part};

/// The version of this checkout.
pub(crate) fn own_version() -> Version {
    env!("CARGO_PKG_VERSION").parse().expect("invariant: a package has three numbers")
}

/// Reads a version of the command line.
pub(crate) fn version(text: &str) -> Result<Version, String> {
    let version: Version = text.parse().map_err(|error| format!("{error}"))?;
    // What stands behind the numbers would not be kept.
    if version.to_string() == text { Ok(version) } else { Err("three numbers, no more".to_owned()) }
}

/// Packs root, kernel and initramfs into `out`.
pub(crate) fn pack(board: &str, version: Version, parts: [&Path; 3], out: &Path) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let [root, kernel, initramfs] = [read(parts[0])?, read(parts[1])?, read(parts[2])?];
    let header = Header {
        board: board.to_owned(),
        version: version.to_string(),
        root: Part::of(&root),
        kernel: Part::of(&kernel),
        initramfs: Part::of(&initramfs),
    };
    let head = header.to_bytes();
    let bytes =
        [&head, &root, &kernel, &initramfs].map(|part| part.len() as u64).iter().sum::<u64>();
    ensure!(
        bytes <= SYSTEM_BYTES_MAX,
        "the system has {bytes} bytes, a deployment at most {SYSTEM_BYTES_MAX}"
    );
    let mut file = File::create(out).with_context(|| out.display().to_string())?;
    for part in [head, root, kernel, initramfs] {
        file.write_all(&part)?;
    }
    Ok(())
}

/// The parts of a system file: root, kernel, initramfs.
pub(crate) fn parts(file: &[u8]) -> Result<(Header, [Vec<u8>; 3])> {
    let (header, from) = Header::parse(file, file.len() as u64)?;
    let mut rest = &file[usize::try_from(from)?..];
    let mut next = |part: Part| {
        let (bytes, behind) = rest.split_at(usize::try_from(part.size)?);
        rest = behind;
        Ok::<_, anyhow::Error>(bytes.to_vec())
    };
    let parts = [next(header.root)?, next(header.kernel)?, next(header.initramfs)?];
    Ok((header, parts))
}

#[cfg(test)]
mod tests {
    use edge_core::boot::Version;

    use super::{pack, parts, version};

    #[test]
    fn what_is_packed_comes_out_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let names = ["root", "kernel", "initramfs"].map(|name| dir.path().join(name));
        for (n, name) in names.iter().enumerate() {
            std::fs::write(name, vec![7; 100 + n]).expect("a file");
        }
        let out = dir.path().join("holm-virt.system");
        let [root, kernel, initramfs] = &names;
        pack("virt", Version(1, 2, 3), [root, kernel, initramfs], &out).expect("packed");
        let (header, parts) = parts(&std::fs::read(&out).expect("a file")).expect("a system");
        assert_eq!((header.board.as_str(), header.version.as_str()), ("virt", "1.2.3"));
        assert_eq!(parts.map(|part| part.len()), [100, 101, 102]);
    }

    #[test]
    fn a_version_is_three_numbers() {
        assert_eq!(version("1.2.3"), Ok(Version(1, 2, 3)));
        assert!(version("1.2").is_err() && version("1.2.3-rc.1").is_err());
    }
}
