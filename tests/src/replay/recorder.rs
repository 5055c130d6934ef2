//! A disk that writes down everything that is done to it: QEMU's storage daemon with its filter
//! `blklogwrites`, shown to the host as a file over FUSE.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::wait_for;

/// The disk, as a file in the folder of the record.
pub(super) const EXPORT: &str = "export";
/// How long the daemon may take to show the disk, and to end.
const DAEMON_MAX: Duration = Duration::from_secs(20);

/// A disk under record. Dropping it ends the daemon.
#[derive(Debug)]
pub(super) struct Recorder {
    daemon: Child,
    export: PathBuf,
}

impl Recorder {
    /// Shows the file `disk` as the file [`EXPORT`] in `dir`; what is done to it goes to `log`.
    pub(super) fn start(dir: &Path, disk: &Path, log: &Path) -> Result<Self> {
        let export = dir.join(EXPORT);
        for file in [log, &export] {
            File::create(file).with_context(|| format!("{}", file.display()))?;
        }
        let bytes = disk.metadata()?.len();
        let printed = File::create(dir.join("storage-daemon.log"))?;
        let mut command = Command::new("qemu-storage-daemon");
        let file = |node: &str, path: &Path| {
            format!("driver=file,node-name={node},filename={}", path.display())
        };
        command.arg("--blockdev").arg(file("disk", disk));
        command.args(["--blockdev", "driver=raw,node-name=raw,file=disk"]);
        command.arg("--blockdev").arg(file("log", log));
        command.args(["--blockdev", "driver=blklogwrites,node-name=recorded,file=raw,log=log"]);
        let mountpoint = export.display();
        command.arg("--export").arg(format!(
            "type=fuse,id=disk,node-name=recorded,mountpoint={mountpoint},writable=on,allow-other=off"
        ));
        command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed);
        // A Ctrl-C is for this process, which then ends the daemon in order.
        let daemon = command.process_group(0).spawn().context("qemu-storage-daemon")?;
        let mut recorder = Self { daemon, export };
        wait_for(DAEMON_MAX, "the recorded disk to be there", || {
            if let Some(status) = recorder.daemon.try_wait()? {
                let log = dir.join("storage-daemon.log");
                bail!("qemu-storage-daemon {status}: {}", std::fs::read_to_string(log)?);
            }
            Ok((recorder.export.metadata()?.len() == bytes).then_some(()))
        })?;
        Ok(recorder)
    }

    /// The disk, as a file.
    pub(super) fn export(&self) -> &Path {
        &self.export
    }

    /// Ends the record; the log is complete then.
    pub(super) fn finish(mut self) -> Result<()> {
        let status = self.end()?;
        ensure!(status.success(), "qemu-storage-daemon ended with {status}");
        Ok(())
    }

    fn end(&mut self) -> Result<std::process::ExitStatus> {
        if let Some(status) = self.daemon.try_wait()? {
            return Ok(status);
        }
        crate::host::run(Command::new("kill").arg("-TERM").arg(self.daemon.id().to_string()))?;
        wait_for(DAEMON_MAX, "the storage daemon to end", || Ok(self.daemon.try_wait()?))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("crash-replay: the storage daemon is ended by force: {error:#}");
            let _ = (self.daemon.kill(), self.daemon.wait());
        }
    }
}
