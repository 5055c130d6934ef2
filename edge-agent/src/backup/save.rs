//! `edge-agent backup`: a data folder becomes one file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backup_archive::hex;
use backup_archive::manifest::{self, Manifest, Saved};
use backup_archive::parts::{self, PARTS, STORE};
use backup_archive::seal::{self, Hashed};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::hold::Hold;
use super::reset::HalfReset;
use super::{BackupError, io_error};
use crate::store::{self, OpenError};
use crate::system_clock;

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct BackedUp {
    /// Name of the gateway.
    pub gateway: String,
    /// Files in it.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the backup.
    pub backup_bytes: u64,
    /// Whether it holds the gateway's identity, and with it the private key.
    pub identity: bool,
    /// What backups that were cut off left beside it. One that is being made there is among them.
    pub left_over: Vec<PathBuf>,
}

/// Backs up the folder of the gateway `gateway`, whose agent would answer on `socket`, to a new
/// file that only its owner can read.
///
/// # Errors
/// See [`BackupError`]; there is no file then.
pub fn back_up(
    gateway: &str,
    data_dir: &Path,
    socket: &Path,
    file: &Path,
) -> Result<BackedUp, BackupError> {
    if !data_dir.join(STORE).is_dir() {
        let dir = data_dir.display();
        return Err(BackupError::Refused(format!(
            "there is no store in {dir}: nothing to back up"
        )));
    }
    let (file, folder) = new_file(data_dir, file)?;
    let _hold = Hold::take(data_dir, socket)?;
    check(data_dir)?;
    let paths = paths(data_dir)?;
    if !paths.iter().any(|path| Path::new(path).starts_with(STORE)) {
        let dir = data_dir.display();
        return Err(BackupError::Refused(format!(
            "the store in {dir} is empty, as a reset leaves it: there is nothing to back up before the agent has \
             run again"
        )));
    }
    let (half, out) = make_half(&folder)?;
    let written = write(gateway, data_dir, &paths, (&half, out));
    let manifest = written.inspect_err(|_| {
        // Half a backup is of no use to anybody; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&half);
    })?;
    if let Err(error) = name_new(&half, &file) {
        let _ = fs::remove_file(&half);
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Err(taken(&file));
        }
        return Err(io_error("naming", &file)(error));
    }
    let synced = File::open(&folder).and_then(|dir| dir.sync_all());
    let backup_bytes = synced.and_then(|()| Ok(fs::metadata(&file)?.len())).map_err(|error| {
        // Its name may be gone with the power: whoever counted on it would have nothing.
        let _ = fs::remove_file(&file);
        io_error("syncing", &folder)(error)
    })?;
    Ok(BackedUp {
        gateway: gateway.to_owned(),
        files: manifest.files.len(),
        bytes: manifest.bytes(),
        backup_bytes,
        identity: manifest.files.keys().any(|path| is_identity(path)),
        left_over: halves(&folder),
    })
}

/// A backup is there to be started from: what no agent can open is none, and is not to take the place
/// of a good one.
fn check(data_dir: &Path) -> Result<(), BackupError> {
    let shown = data_dir.display();
    let half_reset = HalfReset::find(data_dir).map_err(io_error("looking at", data_dir))?;
    if let Some(HalfReset::Pending { .. }) = half_reset {
        return Err(BackupError::Refused(format!(
            "a reset of {shown} was cut off: the next start of the agent finishes it, and then there is \
             something to back up"
        )));
    }
    store::check_heads(&data_dir.join(STORE)).map_err(|error| match error {
        OpenError::Io { step: what, source } => BackupError::Io { what, source },
        error => BackupError::Refused(format!(
            "no agent can open the store in {shown}: {error}. It was not backed up, because no gateway \
             could go on with that. To keep what is there copy the folder as it is (`cp -a {shown} \
             ELSEWHERE`)"
        )),
    })
}

/// Whether a file of a backup says who the gateway is.
pub(super) fn is_identity(path: &str) -> bool {
    parts::of_path(path).is_some_and(|part| part.is_identity)
}

/// Where the backup goes, whole, and its folder.
fn new_file(data_dir: &Path, file: &Path) -> Result<(PathBuf, PathBuf), BackupError> {
    let shown = file.display();
    let name = file.file_name().ok_or_else(|| BackupError::Refused(format!("{shown}: no name")))?;
    let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let folder = folder.canonicalize().map_err(io_error("looking for", folder))?;
    let own = data_dir.canonicalize().map_err(io_error("looking for", data_dir))?;
    if folder.starts_with(&own) {
        let text = format!("{shown} is in the folder that is backed up: name one elsewhere");
        return Err(BackupError::Refused(text));
    }
    let file = folder.join(name);
    if file.symlink_metadata().is_ok() {
        return Err(taken(&file));
    }
    Ok((file, folder))
}

fn taken(file: &Path) -> BackupError {
    BackupError::Refused(format!("{} is there already: name another file", file.display()))
}

/// Gives a file a name that nothing has, also where somebody takes it at the same moment.
pub(super) fn name_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        // A file system that does not know this knows links, which replace nothing either.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            fs::hard_link(from, to)?;
            fs::remove_file(from).inspect_err(|_| drop(fs::remove_file(to)))
        }
        named => named,
    }
}

const HALF_BEGIN: &str = ".holm-backup-";
const HALF_END: &str = ".half";
/// Names that are tried: where process ids are few, one that was killed may have had the same.
const HALVES_MAX: u32 = 100;
/// Entries of a folder that are looked at.
const ENTRIES_MAX: usize = 20_000;

/// A new file to fill, under a name that says so. What has such a name already stays: it may be
/// somebody's.
fn make_half(folder: &Path) -> Result<(PathBuf, File), BackupError> {
    let id = std::process::id();
    for n in 0..HALVES_MAX {
        let half = folder.join(format!("{HALF_BEGIN}{id}-{n}{HALF_END}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("making", &half)(error)),
            Ok(file) => return Ok((half, file)),
        }
    }
    let folder = folder.display();
    let text =
        format!("backups that were cut off left {HALF_BEGIN}*{HALF_END} in {folder}: delete them");
    Err(BackupError::Refused(text))
}

/// Files of that kind. Where the folder cannot be listed there is nothing to tell.
fn halves(folder: &Path) -> Vec<PathBuf> {
    let is_half = |name: &str| name.starts_with(HALF_BEGIN) && name.ends_with(HALF_END);
    let entries = fs::read_dir(folder).into_iter().flatten().take(ENTRIES_MAX).flatten();
    let names = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_half));
    let mut halves: Vec<_> = names.map(|entry| entry.path()).collect();
    halves.sort();
    halves
}

/// Paths of the files that a backup holds, in order.
fn paths(data_dir: &Path) -> Result<Vec<String>, BackupError> {
    let mut paths = Vec::new();
    for part in PARTS.iter().filter(|part| part.is_saved) {
        let at = data_dir.join(part.name);
        if at.symlink_metadata().is_err() {
            continue;
        }
        if !part.is_folder {
            paths.push(part.name.to_owned());
            continue;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).map_err(io_error("listing", &at))? {
            let name = entry.map_err(io_error("listing", &at))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if parts::is_kept(&name) {
                names.push(format!("{}/{name}", part.name));
            }
            if names.len() > manifest::FILES_MAX {
                let most = manifest::FILES_MAX;
                let text = format!("{} holds over {most} files: no agent made them", at.display());
                return Err(BackupError::Refused(text));
            }
        }
        names.sort();
        paths.extend(names);
    }
    Ok(paths)
}

type Archive = Builder<GzEncoder<Hashed<BufWriter<File>>>>;

fn write(
    gateway: &str,
    data_dir: &Path,
    paths: &[String],
    (to, out): (&Path, File),
) -> Result<Manifest, BackupError> {
    let hashed = Hashed::new(BufWriter::new(out));
    let mut archive = Builder::new(GzEncoder::new(hashed, Compression::fast()));
    let mut files = BTreeMap::new();
    for path in paths {
        files.insert(path.clone(), add_file(&mut archive, data_dir, path)?);
    }
    let manifest = Manifest {
        format: manifest::FORMAT,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        gateway: gateway.to_owned(),
        made_unix_s: system_clock::unix_ms() / 1_000,
        files,
    };
    finish(archive, &manifest).map_err(io_error("writing", to))?;
    Ok(manifest)
}

fn add_file(archive: &mut Archive, data_dir: &Path, path: &str) -> Result<Saved, BackupError> {
    let at = data_dir.join(path);
    let kind = at.symlink_metadata().map_err(io_error("reading", &at))?.file_type();
    if !kind.is_file() {
        let text = format!("{} is not an ordinary file: move it away", at.display());
        return Err(BackupError::Refused(text));
    }
    let file = File::open(&at).map_err(io_error("reading", &at))?;
    let bytes = file.metadata().map_err(io_error("reading", &at))?.len();
    let mut hashed = Hashed::new(file.take(bytes));
    archive.append(&header(path, bytes)?, &mut hashed).map_err(io_error("backing up", &at))?;
    let (_, read, hash) = hashed.finish();
    if read != bytes {
        let text = format!("{} became shorter while it was read", at.display());
        return Err(BackupError::Refused(text));
    }
    Ok(Saved { bytes, sha256: hex(&hash) })
}

/// Times and owners are left out: they mean nothing elsewhere.
fn header(path: &str, bytes: u64) -> Result<Header, BackupError> {
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(io_error("naming", Path::new(path)))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header.set_cksum();
    Ok(header)
}

fn finish(mut archive: Archive, manifest: &Manifest) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(manifest)?;
    let head = header(manifest::NAME, text.len() as u64).map_err(io::Error::other)?;
    archive.append(&head, text.as_slice())?;
    let hashed = archive.into_inner()?.finish()?;
    let mut out = seal::seal(hashed)?;
    out.flush()?;
    out.get_ref().sync_all()
}
