//! Where functions lie in the agent's program: those that a gateway runs lie beside each other.
//!
//! Of 9 MB of functions a gateway runs 1.7 MB. As rustc emits them these are spread over all of the program, and the kernel
//! maps 64 KiB around each page that is needed: three quarters of the program are in the agent's memory then, and are
//! read from the card at its start. `cargo xtask layout` writes down what runs; the linker is given that order.
//!
//! A function is known by a hash of its name without the hashes of crates, so a list that was made with one compiler
//! and for one target serves others. One that is not in the list lies behind those that are: a list that is old costs
//! memory, and breaks nothing.

pub(crate) mod record;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use object::{Object, ObjectSymbol, SymbolKind};
use sync_protocol::Digest;

use crate::command::{project_root, target_dir};

/// The list, in the root of the checkout.
const LIST: &str = "cross/layout.txt";
/// An argument of the linker that is for nobody: with another list cargo links again.
const MARK: &str = "--layout=";
/// File in the folder of a target: how many functions of the list are in the program.
const FOUND: &str = "found";
/// Digits of a hash.
const KEY_LEN: usize = 16;

/// What a function is known by.
fn key(symbol: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    let mut digest = Digest::of(name.as_bytes()).to_string();
    digest.truncate(KEY_LEN);
    digest
}

/// The place of each function.
fn places(list: &str) -> Result<HashMap<&str, usize>> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let keys: Vec<&str> = lines.collect();
    let is_key = |key: &&str| key.len() == KEY_LEN && key.bytes().all(|b| b.is_ascii_hexdigit());
    ensure!(keys.iter().all(is_key), "{LIST}: a line is no hash: cargo xtask layout makes it anew");
    Ok(keys.into_iter().enumerate().map(|(place, key)| (key, place)).collect())
}

/// A linker that lays out by the list, for one target.
pub(crate) struct Linker {
    /// Started by rustc in the place of `rust-lld`, by whose name it knows how to speak to it.
    pub(crate) program: PathBuf,
    /// Argument of rustc.
    pub(crate) mark: String,
}

/// Makes it.
pub(crate) fn linker(triple: &str) -> Result<Linker> {
    let list = project_root().join(LIST);
    let text = std::fs::read(&list).with_context(|| list.display().to_string())?;
    let folder = folder(triple)?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let program = folder.join("rust-lld");
    let xtask = std::env::current_exe()?;
    let words = [&xtask, &list, &folder].map(|path| format!("'{}'", path.display()));
    let [xtask, list, folder] = &words;
    ensure!(words.iter().all(|word| word.matches('\'').count() == 2), "an apostrophe in {words:?}");
    let script =
        format!("#!/bin/sh\nexec {xtask} link --list {list} --folder {folder} -- \"$@\"\n");
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(Linker { program, mark: format!("-Clink-arg={MARK}{}", Digest::of(&text)) })
}

fn folder(triple: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join("tools/layout").join(triple))
}

/// Tells where so much of the list is no longer in the program that it is worth another one.
pub(crate) fn look(triple: &str) -> Result<()> {
    let path = folder(triple)?.join(FOUND);
    let found = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: the program was not linked here; remove {triple} from the build folder",
            path.display()
        )
    })?;
    let found: usize = found.trim().parse().with_context(|| path.display().to_string())?;
    let list = std::fs::read_to_string(project_root().join(LIST))?;
    let all = places(&list)?.len();
    if found * 4 < all * 3 {
        eprintln!(
            "{triple}: of {all} functions of {LIST} only {found} are there: the agent holds more memory than it \
             has to; `cargo xtask layout` makes the list anew"
        );
    }
    Ok(())
}

/// Where the linker says what lies where.
fn map(folder: &Path) -> PathBuf {
    folder.join("program.map")
}

/// Options of the linker: what rustc says to `rust-lld`, and what is added.
#[derive(Args)]
pub(crate) struct LinkArgs {
    /// The list.
    #[arg(long)]
    list: PathBuf,
    /// Where the order and the map are written.
    #[arg(long)]
    folder: PathBuf,
    /// Words of rustc.
    #[arg(last = true)]
    words: Vec<OsString>,
}

/// Links in the order of the list; ends as the linker does.
pub(crate) fn link(args: &LinkArgs) -> Result<()> {
    let list = std::fs::read_to_string(&args.list)?;
    let places = places(&list)?;
    let mut ordered = BTreeMap::<usize, Vec<String>>::new();
    for path in
        args.words.iter().map(Path::new).filter(|path| path.extension() == Some("o".as_ref()))
    {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        for name in functions(&bytes).with_context(|| path.display().to_string())? {
            if let Some(place) = places.get(key(&name).as_str()) {
                ordered.entry(*place).or_default().push(name);
            }
        }
    }
    std::fs::write(args.folder.join(FOUND), ordered.len().to_string())?;
    let file = args.folder.join("order.txt");
    let names = ordered.into_values().flatten().map(|name| name + "\n");
    std::fs::write(&file, names.collect::<String>())?;
    let is_mark = |word: &&OsString| word.to_str().is_some_and(|word| word.starts_with(MARK));
    let mut linker = Command::new("rust-lld");
    linker.args(args.words.iter().filter(|word| !is_mark(word)));
    linker.arg("--symbol-ordering-file").arg(file).arg("--no-warn-symbol-ordering");
    linker.arg("--no-demangle").arg("-Map").arg(map(&args.folder));
    Err(linker.exec()).context("rust-lld, which rustc brings")
}

/// Names of the functions in an object file.
fn functions(object: &[u8]) -> Result<Vec<String>> {
    let object = object::File::parse(object)?;
    let functions =
        object.symbols().filter(|it| it.kind() == SymbolKind::Text && it.is_definition());
    functions.map(|symbol| Ok(symbol.name()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_whoever_compiled_it() {
        let one = "_RNvNtCs3vIF18vCiwS_3std2rt19lang_start_internal";
        let two = "_RNvNtCsaaaaaaaaaaa_3std2rt19lang_start_internal";
        let other = "_RNvNtCs3vIF18vCiwS_3std2rt18lang_start_externa";
        assert_eq!(key(one), key(two));
        assert_ne!(key(one), key(other));
        // What is no name of Rust's is taken as it is.
        assert_ne!(key("memcpy"), key("memmove"));
    }

    #[test]
    fn the_list_of_the_checkout_is_one() {
        let list = std::fs::read_to_string(project_root().join(LIST)).unwrap();
        let places = places(&list).unwrap();
        assert!(places.len() > 1_000, "{}", places.len());
        assert!(
            super::places("# text\n0123456789abcdef\n").unwrap().contains_key("0123456789abcdef")
        );
        super::places("0123\n").unwrap_err();
    }

    #[test]
    fn functions_of_an_object_are_found() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let names = functions(&own).unwrap();
        let keys: Vec<String> = names.iter().map(|name| key(name)).collect();
        assert!(keys.contains(&key("main")), "{} functions", names.len());
    }
}
