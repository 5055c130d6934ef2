//! The folder that a test of a package takes place in: packages, bundles, a release, times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sync_protocol::SigningKey;
use system_tests::author::{Author, fixture};

use crate::command::{built, project_root};
use crate::packages::release::{self, Content, Release};
use crate::packages::{deb, sums, tarball};
use crate::targets::list::Target;

/// How patient a test is; where the processor is emulated everything takes its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Longest wait for anything, in seconds.
    pub(crate) patience_s: u32,
    /// Silence after which something hangs.
    pub(crate) hang_s: u32,
    /// Longest that a stop may take.
    pub(crate) stop_s: u32,
}

/// The agent under test.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) bytes: Vec<u8>,
    /// The target that it says it is built for.
    pub(crate) target: String,
    /// What its package needs, beside what all need.
    pub(crate) depends: String,
}

/// What all tests share.
#[derive(Debug)]
pub(crate) struct Props {
    dir: PathBuf,
    author: Author,
    counter: PathBuf,
    /// What the agent of this workspace says of itself (`edge-agent about`).
    about: Value,
}

impl Props {
    /// Makes them in `dir`, with the command line and the agent of this build.
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let counter = author.build(&fixture("apps/counter"))?;
        let output = Command::new(built("edge-agent")?).arg("about").output().context("about")?;
        ensure!(output.status.success(), "edge-agent about: {}", output.status);
        let about = serde_json::from_slice(&output.stdout).context("edge-agent about")?;
        Ok(Self { dir: dir.to_owned(), author, counter, about })
    }

    /// What the agent of this workspace is built for.
    pub(crate) fn own_target(&self) -> Result<String> {
        Ok(self.about["target"].as_str().context("edge-agent about: no target")?.to_owned())
    }

    /// The folder of a target.
    pub(crate) fn folder(&self, target: &Target) -> PathBuf {
        self.dir.join(target.deb).join("try")
    }

    /// Makes it, with this program in the package.
    pub(crate) fn scene(
        &self,
        target: &Target,
        program: &Program,
        times: Times,
    ) -> Result<PathBuf> {
        let (work, folder) = (self.dir.join(target.deb), self.folder(target));
        fs::create_dir_all(&folder)?;
        let content = Content { agent: program.bytes.clone(), sbom: b"{}\n".to_vec() };
        // Two versions of one program: what dpkg does at an upgrade does not depend on what is in it.
        for (version, name) in [("0.0.1", "old.deb"), ("0.0.2", "new.deb")] {
            let release = release(&work, &work, version)?;
            let package = deb::build(&release, &content, target.deb, &program.depends)?;
            fs::rename(package, folder.join(name))?;
        }
        let tarballs = folder.join("release");
        fs::create_dir_all(&tarballs)?;
        let release = release(&work, &tarballs, "0.0.3")?;
        tarball(&release, target, &content)?;
        sums::installer(&release)?;
        sums::write_sums(&release)?;
        fs::copy(&self.counter, folder.join("counter.holm"))?;
        fs::write(folder.join("author.key"), self.author.key()?)?;
        for script in ["test-common.sh", "test.sh", "test-openrc.sh"] {
            fs::copy(project_root().join("cross/packages").join(script), folder.join(script))?;
        }
        let Times { patience_s, hang_s, stop_s } = times;
        let settings = format!("PATIENCE={patience_s}\nHANG={hang_s}\nSTOP={stop_s}\n");
        fs::write(folder.join("settings"), settings)?;
        self.updates(program, &work, &folder)?;
        Ok(folder)
    }

    /// Two updates of the agent. The good one is the same program with a byte behind its end, which no
    /// loader looks at; the bad one says of itself what it has to and ends when it is to work.
    fn updates(&self, program: &Program, work: &Path, folder: &Path) -> Result<()> {
        let mut about = self.about.clone();
        about["target"] = program.target.as_str().into();
        let good = [&program.bytes[..], b"2"].concat();
        let bad =
            format!("#!/bin/sh\nif [ \"$1\" = about ]; then echo '{about}'; else exit 1; fi\n");
        for (version, name, program) in
            [("1.0.0", "good.holm", good), ("1.0.1", "bad.holm", bad.into_bytes())]
        {
            let app = work.join(version);
            fs::create_dir_all(&app)?;
            fs::write(app.join("program"), program)?;
            let text = format!(
                "[app]\nname = \"agent\"\nversion = \"{version}\"\n[agent]\nversion = {}\n\
                 programs = {{ {} = \"program\" }}\n",
                about["version"], about["target"]
            );
            fs::write(app.join("holm.toml"), text)?;
            fs::copy(self.author.build(&app)?, folder.join(name))?;
        }
        Ok(())
    }
}

fn release(work: &Path, out: &Path, version: &str) -> Result<Release> {
    Ok(Release {
        version: version.to_owned(),
        epoch: release::epoch()?,
        out: out.to_owned(),
        scratch: work.join("work"),
        key: Some(SigningKey::generate()?),
    })
}
