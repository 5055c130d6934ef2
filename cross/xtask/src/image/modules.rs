//! Kernel modules: which ones a board needs, in the order in which they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::tool::{output, tool};

/// Modules of a kernel package.
#[derive(Debug)]
pub(crate) struct Modules {
    /// Name, with `_`, to file.
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module, unpacked.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its name, with `_`.
    pub(crate) name: String,
    /// What `insmod` takes.
    pub(crate) contents: Vec<u8>,
}

/// The kernel takes `-` and `_` in names for the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn stem(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    name.find(".ko").map(|end| canonical(&name[..end]))
}

impl Modules {
    /// Those in the folder `lib/modules/VERSION`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let list = dir.join("modules.builtin");
        let text = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        let mut files = BTreeMap::new();
        collect(dir, &mut files)?;
        Ok(Self { files, builtin: text.lines().filter_map(stem).collect() })
    }

    /// These and all that they stand on, what is needed first, first. What is built into the
    /// kernel is left out.
    pub(crate) fn closure(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(&canonical(name), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            bail!("this kernel has no module {name}; its list is in cross/xtask/src/image/board.rs")
        };
        let contents = unpacked(file)?;
        for needed in needs(&contents) {
            // What only makes it faster may be missing.
            if self.files.contains_key(&needed.name) || needed.is_hard {
                self.visit(&needed.name, seen, order)?;
            }
        }
        order.push(Module { name: name.to_owned(), contents });
        Ok(())
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = path.to_str().and_then(stem) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|end| end == "xz") {
        return output(tool("xz", 0).args(["-d", "-c"]).arg(file));
    }
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// Something that a module needs.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    name: String,
    /// Without it the module cannot be loaded.
    is_hard: bool,
}

/// From the strings `depends=a,b` and `softdep=pre: c` of the section `.modinfo`, which are found
/// by themselves: each ends with a zero byte.
fn needs(module: &[u8]) -> Vec<Need> {
    let mut needs = Vec::new();
    for part in module.split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(part) else { continue };
        if let Some(names) = text.strip_prefix("depends=") {
            let names = names.split(',').filter(|name| !name.is_empty());
            needs.extend(names.map(|name| Need { name: canonical(name), is_hard: true }));
        } else if let Some(words) = text.strip_prefix("softdep=pre:") {
            let names = words.split_whitespace().take_while(|word| *word != "post:");
            needs.extend(names.map(|name| Need { name: canonical(name), is_hard: false }));
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::{Need, needs, stem};

    #[test]
    fn names_are_found_in_paths() {
        let name = stem("kernel/drivers/mmc/host/sdhci-iproc.ko.xz");
        assert_eq!(name.as_deref(), Some("sdhci_iproc"));
        assert_eq!(stem("kernel/fs/ext4/ext4.ko").as_deref(), Some("ext4"));
        assert_eq!(stem("modules.order"), None);
    }

    #[test]
    fn what_a_module_stands_on_is_read_from_it() {
        let module = b"\x7fELF\0license=GPL\0depends=mbcache,jbd2\0softdep=pre: crc32c post: x\0";
        let need = |name: &str, is_hard| Need { name: name.to_owned(), is_hard };
        assert_eq!(
            needs(module),
            [need("mbcache", true), need("jbd2", true), need("crc32c", false)]
        );
        assert_eq!(needs(b"depends=\0"), []);
    }
}
