//! An author under test: a key, and bundles built and signed with it by the `holm` command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::program;

/// An author with a home of its own.
#[derive(Clone, Debug)]
pub struct Author {
    home: PathBuf,
}

impl Author {
    /// Makes a key in a fresh home.
    ///
    /// # Errors
    /// The `holm` command fails.
    pub fn new(home: &Path) -> Result<Self> {
        std::fs::create_dir_all(home)?;
        let author = Self { home: home.to_owned() };
        author.holm(&["keys", "new"])?;
        Ok(author)
    }

    /// Home of an author whose key exists already.
    #[must_use]
    pub fn at(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The public key, as configurations take it.
    ///
    /// # Errors
    /// The `holm` command fails.
    pub fn key(&self) -> Result<String> {
        Ok(self.holm(&["keys", "show"])?.trim().to_owned())
    }

    /// Builds and signs the app in `dir`; returns the bundle file, which lies in this author's home:
    /// another author may build the same app meanwhile.
    ///
    /// # Errors
    /// The build fails; the message holds what it printed.
    pub fn build(&self, dir: &Path) -> Result<PathBuf> {
        let name = dir.file_name().context("the app is in no folder")?;
        let bundle = std::path::absolute(self.home.join(name).with_extension("holm"))?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("not UTF-8");
        self.holm(&["build", &text(dir)?, "--out", &text(&bundle)?])?;
        Ok(bundle)
    }

    /// The operator token of the current control plane.
    ///
    /// # Errors
    /// The author knows no control plane.
    pub fn operator_token(&self) -> Result<String> {
        let text = std::fs::read_to_string(self.home.join("config.toml"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("token = "));
        Ok(line.context("no token in the configuration")?.trim_matches('"').to_owned())
    }

    /// Reaches the control plane at another address than the one that `holm cloud init` wrote down.
    ///
    /// # Errors
    /// The author knows no control plane.
    pub fn reach(&self, from: &str, to: &str) -> Result<()> {
        let path = self.home.join("config.toml");
        let text = std::fs::read_to_string(&path).context("no control plane is known")?;
        Ok(std::fs::write(&path, text.replace(from, to))?)
    }

    /// `holm WORDS`, to be run.
    ///
    /// # Errors
    /// The program is not built.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("holm")?);
        command.args(words).env("HOLM_CONFIG", self.home.join("config.toml"));
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `holm WORDS` and returns what it printed.
    ///
    /// # Errors
    /// It fails; the message holds what it printed.
    pub fn holm(&self, words: &[&str]) -> Result<String> {
        let output = self.command(words)?.output().context("holm")?;
        if !output.status.success() {
            bail!("holm {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A folder of this package.
#[must_use]
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
