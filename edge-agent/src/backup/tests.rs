use std::fs;
use std::io::{Read as _, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use backup_archive::seal::{Hashed, seal};
use backup_archive::{Manifest, Saved, hex, manifest};
use edge_core::id::BatchSeq;
use edge_core::time::Millis;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;
use crate::store::disk::SystemDisk;
use crate::store::{self, Batch, LedgerOp, Op, Store as _};

mod forged;
mod owners;
mod resets;
mod unfit;

use self::forged::Forged;

/// Files of a small store that an agent can open.
fn store_files() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let small = store::Settings {
            segment_bytes: 16 << 10,
            segments: 3,
            ballast_bytes: 64 << 10,
            ..store::Settings::default()
        };
        let mut opened = store::open(dir.path(), small).unwrap();
        commit(&mut opened, &batch(1, "x"));
        drop(opened);
        files(dir.path())
    })
}

/// A folder of a gateway, and room beside it.
struct Rig {
    dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { dir: tempfile::tempdir().unwrap() };
        let data = rig.data();
        for folder in ["store", "library", "compiled", "partial"] {
            fs::create_dir_all(data.join(folder)).unwrap();
        }
        let files = [
            ("identity", "who it is"),
            ("breadcrumbs", "what it was at"),
            ("lives", "how often it died"),
            ("library/00ff", "an app"),
            ("library/11ff.new", "half an app"),
            ("compiled/artifact.key", "of this machine"),
        ];
        for (path, contents) in files {
            fs::write(data.join(path), contents).unwrap();
        }
        for (path, contents) in store_files() {
            fs::write(data.join("store").join(path), contents).unwrap();
        }
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn back_up(&self) -> Result<BackedUp, BackupError> {
        let data = self.data();
        back_up("barn-3", &data, &data.join("control.sock"), &self.path("backup"))
    }

    fn restore(&self, options: Options) -> Result<Restored, BackupError> {
        restore(&self.path("backup"), &self.path("other"), options)
    }

    /// Names beside the data folder: nothing may be left there.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Every file below a folder, with its contents.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let at = entry.unwrap().path();
            if at.is_dir() {
                folders.push(at);
                continue;
            }
            let path = at.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            found.push((path, fs::read(&at).unwrap()));
        }
    }
    found.sort();
    found
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn what_is_restored_is_what_was_backed_up() {
    let rig = Rig::new();
    let done = rig.back_up().unwrap();
    assert_eq!((done.files, done.identity), (7, true));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&rig.path("backup")), 0o600, "it holds a private key");
    let restored = rig.restore(Options::default()).unwrap();
    assert_eq!((restored.gateway.as_str(), restored.identity), ("barn-3", true));
    assert_eq!(restored.before, None);
    let kept = ["breadcrumbs", "identity", "library/00ff", "store/checkpoint.redb"];
    let segments = ["store/journal-00.seg", "store/journal-01.seg", "store/journal-02.seg"];
    let kept: Vec<_> = kept.into_iter().chain(segments).collect();
    let other = rig.path("other");
    assert_eq!(names(&other), kept);
    for path in kept {
        let read = |dir: &Path| fs::read(dir.join(path)).unwrap();
        assert_eq!(read(&other), read(&rig.data()), "{path}");
        assert_eq!(mode(&other.join(path)), 0o600, "{path}");
    }
    assert_eq!((mode(&other), mode(&other.join("store"))), (0o700, 0o700));
    assert_eq!(rig.names(), ["backup", "data", "other"], "nothing is left beside it");
}

#[test]
fn a_replacement_does_not_know_who_it_is() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    let options = Options { as_replacement: true, ..Options::default() };
    let restored = rig.restore(options).unwrap();
    assert!(!restored.identity && restored.files == 6);
    assert!(!names(&rig.path("other")).iter().any(|path| path.starts_with("identity")));
}

#[test]
fn a_cut_and_a_flipped_bit_are_found_before_anything_is_changed() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    let whole = fs::read(rig.path("backup")).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(rig.path("backup"), bytes).unwrap();
        let error = rig.restore(Options::default()).expect_err(what);
        assert!(matches!(error, BackupError::Damaged { .. }), "{what}: {error}");
        assert_eq!(rig.names(), ["backup", "data"], "{what}");
    };
    for at in 0..whole.len() {
        refused(&whole[..at], &format!("cut at {at}"));
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&flipped, &format!("flipped at {at}"));
    }
    refused(&[&whole[..], b"x"].concat(), "longer");
    fs::write(rig.path("backup"), &whole).unwrap();
    rig.restore(Options::default()).expect("and whole it is taken");
}

#[test]
fn what_no_backup_holds_is_refused_whoever_wrote_it() {
    let rig = Rig::new();
    let good: (&str, &[u8]) = ("identity", b"x");
    let begin = || Forged::new().file(good.0, good.1);
    let paths = ["../stolen", "/tmp/stolen", "store/../../stolen", "lives", "store/lock", "a/b/c"];
    let mut forged: Vec<(String, Forged)> = paths
        .iter()
        .map(|path| {
            let archive = begin().file(path, b"y").manifest(&[good, (path, b"y")]);
            ((*path).to_owned(), archive)
        })
        .collect();
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::Continuous,
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::XHeader,
    ];
    forged.extend(kinds.map(|kind| {
        let archive = begin().entry("store/link", kind, b"").manifest(&[good, ("store/link", b"")]);
        (format!("{kind:?}"), archive)
    }));
    let liar = |files: &[(&str, &[u8])]| begin().manifest(files);
    let more = [
        ("two of a name", begin().file(good.0, good.1).manifest(&[good])),
        ("no manifest", begin()),
        ("nothing", Forged::new()),
        ("behind the manifest", begin().manifest(&[good]).file("breadcrumbs", b"")),
        ("another content", liar(&[("identity", b"y")])),
        ("another size", liar(&[("identity", b"xx")])),
        ("one more in the manifest", liar(&[good, ("breadcrumbs", b"")])),
        ("one less in the manifest", liar(&[])),
    ];
    forged.extend(more.map(|(what, archive)| (what.to_owned(), archive)));
    for (what, archive) in forged {
        archive.write(&rig.path("backup"));
        let error = rig.restore(Options::default()).expect_err(&what);
        assert!(matches!(error, BackupError::Damaged { .. }), "{what}: {error}");
        assert_eq!(rig.names(), ["backup", "data"], "{what}");
    }
    begin().manifest(&[good]).write(&rig.path("backup"));
    rig.restore(Options::default()).expect("the forger can write a good one");
}

#[test]
fn a_newer_format_says_what_to_do() {
    let rig = Rig::new();
    Forged::new().file(manifest::NAME, br#"{"format":2,"more":1}"#).write(&rig.path("backup"));
    let error = rig.restore(Options::default()).expect_err("a newer one").to_string();
    assert!(error.contains("restore with the agent that made it"), "{error}");
}

#[test]
fn an_agent_keeps_everybody_out() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    fs::remove_file(rig.path("backup")).unwrap();
    let all = |what: &str| {
        let data = rig.data();
        let socket = data.join("control.sock");
        let before = files(&data.join("store"));
        let running = |error: BackupError| {
            assert!(matches!(error, BackupError::Running(_)), "{what}: {error}");
            assert!(error.to_string().contains("systemctl stop"), "{error}");
        };
        running(rig.back_up().expect_err(what));
        running(reset(&data, &socket, false).expect_err(what));
        Forged::new().file("identity", b"x").manifest(&[("identity", b"x")]).write(&rig.path("b"));
        let options = Options { force: true, ..Options::default() };
        running(restore(&rig.path("b"), &data, options).expect_err(what));
        assert_eq!(files(&data.join("store")), before, "{what}");
        assert_eq!(rig.names(), ["b", "data"], "{what}");
    };
    let lock = SystemDisk::take(&rig.data().join("store")).unwrap();
    all("it has the store");
    drop(lock);
    let _answers = UnixListener::bind(rig.data().join("control.sock")).unwrap();
    all("its store is broken, and it answers");
}

#[test]
fn a_target_with_data_is_replaced_only_by_force_and_kept() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    let other = rig.path("other");
    fs::create_dir_all(other.join("store")).unwrap();
    fs::write(other.join("identity"), "another").unwrap();
    let error = rig.restore(Options::default()).expect_err("it is not empty").to_string();
    assert!(error.contains("--force"), "{error}");
    assert_eq!(fs::read(other.join("identity")).unwrap(), b"another");

    let force = Options { force: true, ..Options::default() };
    for n in 0..2 {
        let before = rig.restore(force).unwrap().before.expect("it is kept");
        let kept = ["other.before-restore", "other.before-restore-1"][n];
        assert_eq!(before.file_name().unwrap(), kept);
        assert_eq!(fs::read(other.join("identity")).unwrap(), b"who it is");
    }
    assert_eq!(fs::read(rig.path("other.before-restore/identity")).unwrap(), b"another");

    fs::remove_dir_all(&other).unwrap();
    fs::create_dir_all(other.join("photos")).unwrap();
    let error = rig.restore(force).expect_err("it is no gateway's").to_string();
    assert!(error.contains("not a gateway's folder"), "{error}");
    fs::remove_dir_all(&other).unwrap();
    fs::write(&other, "").unwrap();
    rig.restore(force).expect_err("it is a file");
}

/// As on a card image, where `/var/lib/holm` leads to the data partition.
#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    let (link, card) = (rig.path("other"), rig.path("card"));
    symlink("card/holm", &link).unwrap();
    let error = rig.restore(Options::default()).expect_err("it leads nowhere").to_string();
    assert!(error.contains("is a link to card/holm, which is not there"), "{error}");
    assert_eq!(rig.names(), ["backup", "data", "other"]);

    fs::create_dir_all(card.join("holm/store")).unwrap();
    fs::write(card.join("holm/identity"), "another").unwrap();
    rig.restore(Options::default()).expect_err("it is not empty");
    let force = Options { force: true, ..Options::default() };
    let before = rig.restore(force).unwrap().before.expect("it is kept");
    assert_eq!(before, card.canonicalize().unwrap().join("holm.before-restore"));
    assert_eq!(fs::read(before.join("identity")).unwrap(), b"another");
    assert_eq!(fs::read(card.join("holm/identity")).unwrap(), b"who it is");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("card/holm"));
    assert_eq!(rig.names(), ["backup", "card", "data", "other"], "nothing stands beside the link");

    fs::create_dir(card.join(".holm.restored")).unwrap();
    assert_eq!(cut_off(&link), Some(card.canonicalize().unwrap().join(".holm.restored")));
    // With a slash at its end as well.
    restore(&rig.path("backup"), &rig.path("other/"), force).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("card/holm"));
}

#[test]
fn an_empty_target_keeps_its_mode_and_owner() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    let other = rig.path("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o750)).unwrap();
    let before = fs::metadata(&other).unwrap();
    // What a restore that was cut off left is no obstacle.
    fs::create_dir_all(rig.path(".other.restoring/store")).unwrap();
    rig.restore(Options::default()).unwrap();
    let after = fs::metadata(&other).unwrap();
    assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
    assert_eq!(rig.names(), ["backup", "data", "other"]);
}

#[test]
fn a_restore_counts_the_room_that_one_before_it_took() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    let left = rig.path(".other.restoring");
    let restore = |free_bytes: &dyn Fn() -> u64| {
        fs::create_dir_all(left.join("store")).unwrap();
        fs::write(left.join("store/checkpoint.redb"), "half of it").unwrap();
        let (file, target) = (rig.path("backup"), rig.path("other"));
        restore::restore_to(&file, &target, Options::default(), |_| Ok(free_bytes()))
    };
    let error = restore(&|| 1_000).expect_err("a full disk").to_string();
    assert!(error.contains("1000 are free: make room"), "{error}");
    assert_eq!(rig.names(), ["backup", "data"], "nothing is left beside it");
    let free_without_it = || if left.join("store").exists() { 1_000 } else { u64::MAX };
    restore(&free_without_it).unwrap();
    assert_eq!(rig.names(), ["backup", "data", "other"]);
}

/// As packages have them.
#[test]
fn slots_beside_the_data_stay_where_they_are() {
    let rig = Rig::new();
    rig.back_up().unwrap();
    fs::rename(rig.data(), rig.path("other")).unwrap();
    let slots = rig.path("other-slots");
    fs::create_dir_all(slots.join("a")).unwrap();
    fs::write(slots.join("a/edge-agent"), "a program").unwrap();
    let before = files(&slots);
    let force = Options { force: true, ..Options::default() };
    rig.restore(force).unwrap();
    assert_eq!(files(&slots), before);
    let socket = rig.path("other/control.sock");
    reset(&rig.path("other"), &socket, false).unwrap();
    assert_eq!(files(&slots), before);
    assert_eq!(rig.names(), ["backup", "other", "other-slots", "other.before-restore"]);
}

#[test]
fn a_backup_goes_to_a_new_file_elsewhere() {
    let rig = Rig::new();
    let data = rig.data();
    let to = |file: &Path| back_up("b", &data, &data.join("control.sock"), file);
    to(&data.join("backup")).expect_err("within the data");
    to(&data.join("store/../backup")).expect_err("within the data, by a detour");
    to(&rig.path("nowhere/backup")).expect_err("no such folder");
    rig.back_up().unwrap();
    rig.back_up().expect_err("it is there");
    fs::remove_dir_all(data.join("store")).unwrap();
    to(&rig.path("second")).expect_err("nothing to back up");
    fs::create_dir(data.join("store")).unwrap();
    symlink("/etc/hostname", data.join("store/link")).unwrap();
    to(&rig.path("second")).expect_err("a link");
    assert_eq!(rig.names(), ["backup", "data"], "no half of one is left");
}

fn batch(seq: u64, value: &'static str) -> Batch {
    let op = LedgerOp::Put { name: "x".to_owned(), value: value.into() };
    Batch { seq: BatchSeq(seq), gateway_time: Millis(seq), ops: vec![Op::Ledger(op)] }
}

fn commit(opened: &mut store::Opened, batch: &Batch) {
    batch.ops.iter().for_each(|op| opened.overlay.apply(batch.seq, op));
    opened.store.commit(batch).unwrap();
}

#[test]
fn a_store_goes_on_where_the_backup_was_made() {
    let rig = Rig::new();
    let data = rig.data();
    fs::remove_dir_all(data.join("store")).unwrap();
    let open = |data: &Path| store::open(&data.join("store"), store::Settings::default()).unwrap();
    let mut opened = open(&data);
    commit(&mut opened, &batch(1, "before"));
    drop(opened);
    rig.back_up().unwrap();
    let mut opened = open(&data);
    commit(&mut opened, &batch(2, "after"));
    drop(opened);
    rig.restore(Options::default()).unwrap();
    let restored = open(&rig.path("other"));
    assert_eq!(restored.recovered.last, BatchSeq(1));
    assert!(!restored.recovered.created);
    assert_eq!(restored.reader.ledger_get("x").unwrap().as_deref(), Some(&b"before"[..]));
    assert_eq!(open(&data).recovered.last, BatchSeq(2), "the original is untouched");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_contents_come_back(
        identity in proptest::collection::vec(any::<u8>(), 0..5_000),
        bundle in proptest::collection::vec(any::<u8>(), 0..200_000),
    ) {
        let rig = Rig::new();
        fs::write(rig.data().join("identity"), &identity).unwrap();
        fs::write(rig.data().join("library/00ff"), &bundle).unwrap();
        rig.back_up().unwrap();
        rig.restore(Options::default()).unwrap();
        let read = |name: &str| fs::read(rig.path("other").join(name)).unwrap();
        prop_assert_eq!(read("identity"), identity);
        prop_assert_eq!(read("library/00ff"), bundle);
    }

    #[test]
    fn a_forged_bit_changes_nothing_that_is_restored(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let rig = Rig::new();
        rig.back_up().unwrap();
        let sealed = fs::read(rig.path("backup")).unwrap();
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(sealed.as_slice()).read_to_end(&mut tar).unwrap();
        let at = at.index(tar.len());
        tar[at] ^= 1_u8 << bit;
        let mut gz = GzEncoder::new(Hashed::new(Vec::new()), Compression::fast());
        gz.write_all(&tar).unwrap();
        fs::write(rig.path("backup"), seal(gz.finish().unwrap()).unwrap()).unwrap();
        match rig.restore(Options::default()) {
            Err(error) => {
                let is_damaged = matches!(error, BackupError::Damaged { .. });
                prop_assert!(is_damaged, "{}", error);
                prop_assert_eq!(rig.names(), ["backup", "data"]);
            }
            // It was in the padding between files, or in what the manifest tells people.
            Ok(_) => {
                for (path, contents) in files(&rig.path("other")) {
                    prop_assert_eq!(fs::read(rig.data().join(&path)).unwrap(), contents, "{}", path);
                }
            }
        }
    }

    #[test]
    fn bytes_of_anything_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let rig = Rig::new();
        // With a right trailer, so that all that stands behind it is reached.
        let mut hashed = Hashed::new(Vec::new());
        hashed.write_all(&bytes).unwrap();
        fs::write(rig.path("backup"), seal(hashed).unwrap()).unwrap();
        let refused = rig.restore(Options::default());
        let is_damaged = matches!(refused, Err(BackupError::Damaged { .. }));
        prop_assert!(is_damaged, "{:?}", refused);
        prop_assert_eq!(rig.names(), ["backup", "data"]);
    }
}
