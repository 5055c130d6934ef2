//! `holm keys`: the Ed25519 keys that sign apps. Gateways run only what a key signed that they
//! pinned when they enrolled. Private halves never leave their files.

use std::path::PathBuf;

use serde_json::json;
use sync_protocol::{AuthorKey, SigningKey};

use crate::args::{Global, KeyCommand, Keys};
use crate::failure::{Done, Exit, Failure, read_file};
use crate::out::{Out, table};
use crate::{context, secret_file};

/// Name of the key that is used when none is named.
pub const DEFAULT: &str = "default";
const PEM_BYTES_MAX: u64 = 4 << 10;
const EXTENSION: &str = "pem";

/// Where keys are kept.
#[derive(Clone, Debug)]
pub struct KeyStore {
    dir: PathBuf,
}

impl KeyStore {
    /// The folder `keys` beside the configuration.
    ///
    /// # Errors
    /// There is no home folder.
    pub fn open(global: &Global) -> Done<Self> {
        Ok(Self { dir: context::config_dir(global)?.join("keys") })
    }

    /// The file of a key, there or not.
    ///
    /// # Errors
    /// The name is none.
    pub fn path(&self, name: &str) -> Done<PathBuf> {
        sync_protocol::id::check_name(name).map_err(|_| {
            Failure::usage(format!("`{name}` is no name for a key"))
                .next("use 1 to 63 characters a-z, 0-9 and inner hyphens")
        })?;
        Ok(self.dir.join(name).with_extension(EXTENSION))
    }

    /// Makes a key.
    ///
    /// # Errors
    /// There is one of that name, or it cannot be written.
    pub fn create(&self, name: &str) -> Done<(SigningKey, PathBuf)> {
        let path = self.path(name)?;
        if path.exists() {
            return Err(Failure::failed(format!("there is a key `{name}`: {}", path.display()))
                .next("give the new one another name; a lost key cannot be made again"));
        }
        let key = SigningKey::generate().map_err(|error| Failure::failed(error.to_string()))?;
        secret_file::write(&path, key.to_pem().as_bytes())?;
        Ok((key, path))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// There is none of that name, or it is not a key.
    pub fn load(&self, name: &str) -> Done<SigningKey> {
        let path = self.path(name)?;
        let bytes = read_file(&path, PEM_BYTES_MAX).map_err(|failure| match failure.exit {
            Exit::NotFound => Failure::new(Exit::NotFound, format!("there is no key `{name}`"))
                .next(format!("make it with `holm keys new {name}`")),
            _ => failure,
        })?;
        let pem = String::from_utf8_lossy(&bytes);
        SigningKey::from_pem(&pem)
            .map_err(|error| Failure::input(format!("{}: {error}", path.display())))
    }

    /// The key named, or the default one if it exists.
    ///
    /// # Errors
    /// As [`KeyStore::load`].
    pub fn chosen(&self, name: Option<&str>) -> Done<Option<(String, SigningKey)>> {
        let name = match name {
            Some(name) => name,
            None if self.path(DEFAULT)?.exists() => DEFAULT,
            None => return Ok(None),
        };
        Ok(Some((name.to_owned(), self.load(name)?)))
    }

    fn names(&self) -> Done<Vec<String>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::file("read", &self.dir, &error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }
}

/// `holm keys`
///
/// # Errors
/// A key is there already or is not there, or a file cannot be written.
pub fn run(args: &Keys, global: &Global, out: &Out) -> Done {
    let store = KeyStore::open(global)?;
    match &args.command {
        KeyCommand::New { name } => {
            let (key, path) = store.create(name)?;
            show(out, name, &key.public(), |text| {
                text.push_str(&format!("made {}; keep a copy in a safe place\n", path.display()));
            })
        }
        KeyCommand::Show { name } => show(out, name, &store.load(name)?.public(), |_| {}),
        KeyCommand::Export { name, out: file } => {
            let public = store.load(name)?.public();
            std::fs::write(file, format!("{public}\n"))
                .map_err(|error| Failure::file("write", file, &error))?;
            show(out, name, &public, |_| {})
        }
        KeyCommand::List => list(&store, out),
    }
}

fn show(out: &Out, name: &str, key: &AuthorKey, more: impl FnOnce(&mut String)) -> Done {
    let value = json!({ "name": name, "id": key.id().to_string(), "public": key.to_string() });
    out.answer(&value, |text, _| {
        more(text);
        text.push_str(&format!("{key}\n"));
    })
}

fn list(store: &KeyStore, out: &Out) -> Done {
    let mut keys = Vec::new();
    for name in store.names()? {
        if let Some(complaint) = secret_file::complaint(&store.dir.join(format!("{name}.pem"))) {
            out.note(&complaint);
        }
        let public = store.load(&name)?.public();
        keys.push((name, public));
    }
    let value: Vec<_> = keys
        .iter()
        .map(|(name, key)| {
            json!({ "name": name, "id": key.id().to_string(), "public": key.to_string() })
        })
        .collect();
    out.answer(&value, |text, out| {
        if keys.is_empty() {
            text.push_str("no keys yet: `holm keys new`\n");
            return;
        }
        let mut rows = vec![vec!["NAME".to_owned(), "PUBLIC KEY".to_owned()]];
        rows.extend(keys.iter().map(|(name, key)| vec![name.clone(), key.to_string()]));
        text.push_str(&table(out, &rows));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore { dir: dir.path().join("keys") };
        assert!(store.chosen(None).unwrap().is_none());
        let (made, _) = store.create(DEFAULT).unwrap();
        let (name, read) = store.chosen(None).unwrap().unwrap();
        assert_eq!((name.as_str(), read.public()), (DEFAULT, made.public()));
        assert_eq!(store.create(DEFAULT).unwrap_err().exit, Exit::Failed);
        assert_eq!(store.load("other").unwrap_err().exit, Exit::NotFound);
        assert_eq!(store.load("../x").unwrap_err().exit, Exit::Usage);
        assert_eq!(store.names().unwrap(), [DEFAULT]);
    }
}
