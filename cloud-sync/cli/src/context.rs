//! Which control planes are known, and which one is meant: `~/.config/holm/config.toml`.
//!
//! The file holds tokens, so only its owner may read it. The certificate authority of each control
//! plane stands beside its token: a connection is made only to a server with a certificate from
//! exactly that authority, whatever the system trusts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::{self, ContextCommand, Global};
use crate::failure::{Done, Exit, Failure, read_file};
use crate::out::{Out, Paint, table};
use crate::secret_file;

const FILE_BYTES_MAX: u64 = 1 << 20;
const PEM_BYTES_MAX: u64 = 64 << 10;

/// A control plane and how to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Operator token.
    pub token: String,
    /// The authority that the server's certificate must come from, PEM.
    pub ca: String,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Name of the one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
    #[serde(skip)]
    path: PathBuf,
}

/// Folder of configuration and keys.
///
/// # Errors
/// Neither `--config` nor a home folder is known.
pub fn config_dir(global: &Global) -> Done<PathBuf> {
    let file = config_file(global)?;
    Ok(file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned))
}

fn config_file(global: &Global) -> Done<PathBuf> {
    if let Some(file) = &global.config {
        return Ok(file.clone());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")));
    let base = base.ok_or_else(|| {
        Failure::failed("there is no home folder to keep the configuration in")
            .next("name a file: --config FILE, or HOLM_CONFIG")
    })?;
    Ok(base.join("holm").join("config.toml"))
}

impl Contexts {
    /// Reads the file; without one there are no contexts.
    ///
    /// # Errors
    /// The file cannot be read or is not a configuration.
    pub fn load(global: &Global) -> Done<Self> {
        let path = config_file(global)?;
        let bytes = match read_file(&path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(failure) if failure.exit == Exit::NotFound => {
                return Ok(Self { path, ..Self::default() });
            }
            Err(failure) => return Err(failure),
        };
        let wrong = |why: String| {
            Failure::input(format!("{}: {why}", path.display()))
                .next("mend or remove the file, then `holm login` again")
        };
        let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8 text".to_owned()))?;
        let mut contexts: Self =
            toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        contexts.path = path;
        Ok(contexts)
    }

    fn save(&self) -> Done {
        let text = toml::to_string(self)
            .map_err(|error| Failure::failed(format!("cannot write the contexts: {error}")))?;
        secret_file::write(&self.path, text.as_bytes())
    }

    /// Adds or replaces a context and makes it the current one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&mut self, name: &str, context: Context) -> Done {
        self.contexts.insert(name.to_owned(), context);
        self.current = Some(name.to_owned());
        self.save()
    }

    /// The file they are kept in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The context that is meant: the one named, or the current one.
    ///
    /// # Errors
    /// There is none, or none of that name.
    pub fn chosen(&self, global: &Global) -> Done<(String, Context)> {
        let name = global.context.as_ref().or(self.current.as_ref()).ok_or_else(|| {
            Failure::new(Exit::NotFound, "no control plane is known here").next(
                "make one with `holm cloud init DIR`, or `holm login URL` to one that runs; \
                 `holm dev` needs none",
            )
        })?;
        let context = self.contexts.get(name).ok_or_else(|| self.unknown(name))?;
        Ok((name.clone(), context.clone()))
    }

    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        let problem = format!("there is no context `{name}`");
        let next = match known.as_slice() {
            [] => "none is known yet: `holm login URL`".to_owned(),
            known => format!("known are: {}", known.join(", ")),
        };
        Failure::new(Exit::NotFound, problem).next(next)
    }
}

/// `holm context`
///
/// # Errors
/// No such context, or the file cannot be written.
pub fn run(args: &args::Context, global: &Global, out: &Out) -> Done {
    let mut contexts = Contexts::load(global)?;
    match &args.command {
        None | Some(ContextCommand::List) => list(&contexts, out),
        Some(ContextCommand::Show { token: true }) => {
            let (name, context) = contexts.chosen(global)?;
            let value = json!({ "name": name, "token": context.token });
            out.answer(&value, |text, _| text.push_str(&format!("{}\n", context.token)))
        }
        Some(ContextCommand::Show { token: false }) => {
            let (name, context) = contexts.chosen(global)?;
            let value = json!({ "name": name, "url": context.url });
            out.answer(&value, |text, _| {
                text.push_str(&format!("{name}  {}\n", context.url));
            })
        }
        Some(ContextCommand::Use { name }) => {
            if !contexts.contexts.contains_key(name) {
                return Err(contexts.unknown(name));
            }
            contexts.current = Some(name.clone());
            contexts.save()?;
            out.answer(&json!({ "current": name }), |text, _| {
                text.push_str(&format!("{name} is the current context\n"));
            })
        }
        Some(ContextCommand::Remove { name }) => {
            if contexts.contexts.remove(name).is_none() {
                return Err(contexts.unknown(name));
            }
            if contexts.current.as_ref() == Some(name) {
                contexts.current = None;
            }
            contexts.save()?;
            out.answer(&json!({ "removed": name }), |text, _| {
                text.push_str(&format!("{name} is forgotten\n"));
            })
        }
    }
}

fn list(contexts: &Contexts, out: &Out) -> Done {
    let is_current = |name: &String| contexts.current.as_ref() == Some(name);
    let value: Vec<_> = contexts
        .contexts
        .iter()
        .map(|(name, context)| {
            json!({ "name": name, "url": context.url, "current": is_current(name) })
        })
        .collect();
    out.answer(&value, |text, out| {
        if contexts.contexts.is_empty() {
            text.push_str("no control plane is known: `holm cloud init DIR` or `holm login URL`\n");
            return;
        }
        let mut rows = vec![vec![String::new(), "NAME".to_owned(), "URL".to_owned()]];
        rows.extend(contexts.contexts.iter().map(|(name, context)| {
            let mark = if is_current(name) { out.paint("*", Paint::Green) } else { String::new() };
            vec![mark, name.clone(), context.url.clone()]
        }));
        text.push_str(&table(out, &rows));
    })
}

/// `holm login`: remembers a control plane after it let us in.
///
/// # Errors
/// A file cannot be read, the control plane does not answer or refuses the token.
pub fn login(args: &args::Login, global: &Global, out: &Out) -> Done {
    let token = crate::input::secret(args.token_file.as_deref(), "token")?;
    let ca = crate::input::text(&args.ca, PEM_BYTES_MAX)?;
    let context = Context { url: args.url.trim_end_matches('/').to_owned(), token, ca };
    let api = crate::http::Api::new(&context)?;
    api.probe()?;
    let mut contexts = Contexts::load(global)?;
    contexts.put(&args.name, context)?;
    out.answer(&json!({ "context": args.name, "url": args.url }), |text, _| {
        text.push_str(&format!("{} is remembered as `{}`\n", args.url, args.name));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(dir: &Path, context: Option<&str>) -> Global {
        Global {
            json: false,
            quiet: true,
            config: Some(dir.join("config.toml")),
            context: context.map(str::to_owned),
        }
    }

    #[test]
    fn contexts_are_kept_and_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let here = global(dir.path(), None);
        let mut contexts = Contexts::load(&here).unwrap();
        assert_eq!(contexts.chosen(&here).unwrap_err().exit, Exit::NotFound);
        let context =
            |url: &str| Context { url: url.to_owned(), token: "t".into(), ca: "c".into() };
        contexts.put("one", context("https://one")).unwrap();
        contexts.put("two", context("https://two")).unwrap();
        let again = Contexts::load(&here).unwrap();
        assert_eq!(again, contexts);
        assert_eq!(again.chosen(&here).unwrap().0, "two");
        assert_eq!(again.chosen(&global(dir.path(), Some("one"))).unwrap().1.url, "https://one");
        let failure = again.chosen(&global(dir.path(), Some("three"))).unwrap_err();
        assert_eq!(failure.next.as_deref(), Some("known are: one, two"));
    }

    #[test]
    fn a_broken_file_is_an_input_failure() {
        let dir = tempfile::tempdir().unwrap();
        let here = global(dir.path(), None);
        std::fs::write(dir.path().join("config.toml"), "contexts = 3").unwrap();
        assert_eq!(Contexts::load(&here).unwrap_err().exit, Exit::Input);
    }
}
