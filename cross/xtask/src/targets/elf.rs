//! What a program asks of the system it is started on, read from its file.

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, elf};

/// What is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The loader it wants; none: it is static.
    pub(crate) loader: Option<String>,
    /// The newest glibc that a symbol of it asks for.
    pub(crate) glibc: Option<(u32, u32)>,
}

impl Needs {
    /// Reads them.
    ///
    /// # Errors
    /// It is no ELF program, or it uses what glibc keeps to itself.
    pub(crate) fn of(program: &[u8]) -> Result<Self> {
        match FileKind::parse(program).context("not a program")? {
            FileKind::Elf32 => read::<elf::FileHeader32<Endianness>>(program),
            FileKind::Elf64 => read::<elf::FileHeader64<Endianness>>(program),
            other => bail!("not an ELF program but {other:?}"),
        }
    }

    /// Fails where it does not start with the glibc `floor`.
    ///
    /// # Errors
    /// It asks for a newer one.
    pub(crate) fn hold(&self, floor: (u32, u32)) -> Result<()> {
        let Some((major, minor)) = self.glibc else { return Ok(()) };
        ensure!(
            (major, minor) <= floor,
            "it needs GLIBC_{major}.{minor}, but has to start with {}.{}: link it against the older one",
            floor.0,
            floor.1
        );
        Ok(())
    }
}

fn read<H: FileHeader<Endian = Endianness>>(program: &[u8]) -> Result<Needs> {
    let header = H::parse(program)?;
    let endian = header.endian()?;
    let mut loader = None;
    for segment in header.program_headers(endian, program)? {
        if let Some(path) = segment.interpreter(endian, program)? {
            loader = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, program)?;
    let mut glibc = None;
    if let Some((mut libraries, link)) = sections.gnu_verneed(endian, program)? {
        let names = sections.strings(endian, program, link)?;
        while let Some((_, mut versions)) = libraries.next()? {
            while let Some(version) = versions.next()? {
                let name = String::from_utf8_lossy(version.name(endian, names)?).into_owned();
                glibc = glibc.max(version_of_glibc(&name)?);
            }
        }
    }
    Ok(Needs { loader, glibc })
}

/// `GLIBC_2.34` as numbers; `None`: a version of another library.
fn version_of_glibc(name: &str) -> Result<Option<(u32, u32)>> {
    let Some(version) = name.strip_prefix("GLIBC_") else { return Ok(None) };
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok(Some((major, minor))),
        _ => bail!("it uses {name}, which is no version that glibc promises"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_needs_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = Needs::of(&own).unwrap();
        if cfg!(target_env = "gnu") {
            assert!(needs.loader.as_deref().is_some_and(|loader| loader.contains("ld-linux")));
            assert!(needs.glibc > Some((2, 10)), "{needs:?}");
            let why = needs.hold((2, 10)).unwrap_err().to_string();
            assert!(why.contains("has to start with 2.10"), "{why}");
        }
        needs.hold((99, 0)).unwrap();
        assert!(Needs::of(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version_of_glibc("GLIBC_2.28").unwrap(), Some((2, 28)));
        assert_eq!(version_of_glibc("GLIBC_2.2.5").unwrap(), Some((2, 2)));
        assert_eq!(version_of_glibc("GCC_3.0").unwrap(), None);
        assert!(version_of_glibc("GLIBC_PRIVATE").is_err());
        // As numbers, not as text.
        assert!(version_of_glibc("GLIBC_2.4").unwrap() < version_of_glibc("GLIBC_2.28").unwrap());
    }
}
