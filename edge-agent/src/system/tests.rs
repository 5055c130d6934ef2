//! The helper on files that stand for a card, with power cuts at each of its steps.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edge_core::boot::card::{BootRecord, COPIES_AT};
use edge_core::boot::system::{Next, Request, View, Wanted, When, next};
use edge_core::boot::{Offer, Program, Slot, Version};
use sync_protocol::id::Digest;
use sync_protocol::manifest::update::{self, Update};
use sync_protocol::revision::{SignedManifest, SigningKey};
use sync_protocol::system_file::{Header, Part};
use sync_protocol::{Manifest, manifest};

use super::helper::{Places, Then, keep, serve, serve_by, settle};
use super::{REQUEST, VIEW, card, read_json, write_json};

const BOARD: &str = "virt";
/// What a slot holds: root, kernel, initramfs.
type Contents = [Vec<u8>; 3];

/// A card, its agent's library, and the author of systems.
struct Card {
    _dir: tempfile::TempDir,
    dir: PathBuf,
    author: SigningKey,
    slot: Slot,
}

/// A system, unlike those of other numbers.
fn contents(n: u8) -> Contents {
    let part = |len: usize, k: u8| (0..len).map(|at| at.to_le_bytes()[0] ^ n ^ k).collect();
    // The root takes several pieces.
    [part(600_000 + usize::from(n), 1), part(300_000 + usize::from(n), 2), part(1_000, 3)]
}

fn system_file(board: &str, version: &str, contents: &Contents) -> Vec<u8> {
    let [root, kernel, initramfs] = contents;
    let header = Header {
        board: board.to_owned(),
        version: version.to_owned(),
        root: Part::of(root),
        kernel: Part::of(kernel),
        initramfs: Part::of(initramfs),
    };
    [header.to_bytes(), contents.concat()].concat()
}

impl Card {
    /// A fresh image: the same system in both slots.
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("a folder");
        let dir = temp.path().to_owned();
        for folder in ["shared/ask", "boot/a", "boot/b", "data/library", "root"] {
            fs::create_dir_all(dir.join(folder)).expect("a folder");
        }
        let mut disk = vec![0; usize::try_from(COPIES_AT[1]).expect("small") + 512];
        for at in COPIES_AT {
            let at = usize::try_from(at).expect("small");
            disk[at..at + 512].copy_from_slice(&BootRecord::FRESH.encode());
        }
        fs::write(dir.join("disk"), disk).expect("a file");
        let author = SigningKey::generate().expect("entropy");
        let card = Self { _dir: temp, dir, author, slot: Slot::A };
        for slot in Slot::ALL {
            for (path, bytes) in card.paths(slot).iter().zip(contents(0)) {
                fs::write(path, bytes).expect("a file");
            }
        }
        card.settle(When::AtStart);
        card
    }

    fn paths(&self, slot: Slot) -> [PathBuf; 3] {
        let (root, boot) = (format!("root-{}", slot.as_str()), self.dir.join("boot"));
        let boot = boot.join(slot.as_str());
        [self.dir.join(root), boot.join("kernel.gz"), boot.join("initramfs.gz")]
    }

    fn places(&self) -> Places {
        Places {
            shared: self.dir.join("shared"),
            state: self.dir.join("root/state"),
            disk: self.dir.join("disk"),
            roots: Slot::ALL.map(|slot| self.paths(slot)[0].clone()),
            boot: Some(self.dir.join("boot")),
            slot: self.slot,
            board: BOARD.to_owned(),
            version: Version(0, 1, 0),
            data_dir: self.dir.join("data"),
            author_keys: vec![self.author.public().to_string()],
        }
    }

    fn settle(&self, when: When) {
        settle(&self.places(), when).expect("settled");
    }

    fn view(&self) -> View {
        read_json(&self.dir.join("shared").join(VIEW)).expect("a view")
    }

    fn record(&self) -> BootRecord {
        card::read(&self.dir.join("disk")).expect("a whole copy")
    }

    /// As the agent's library has it after a fetch: manifest and file of a system; what the agent wants then.
    fn bring(&self, file: &[u8], version: &str, by: &SigningKey) -> Wanted {
        let artifact = Digest::of(file);
        let program = update::Program { artifact, size: file.len() as u64 };
        let system = Update {
            version: version.to_owned(),
            floor: None,
            force: false,
            programs: [(BOARD.to_owned(), program)].into(),
        };
        let manifest = Manifest {
            format: manifest::FORMAT,
            app: "system".to_owned(),
            version: version.to_owned(),
            sequence: 1,
            floor: 0,
            functions: BTreeMap::new(),
            triggers: BTreeMap::new(),
            records: BTreeMap::new(),
            firmware: BTreeMap::new(),
            agent: None,
            system: Some(system),
        };
        let signed = SignedManifest::sign(&manifest, by).expect("a good manifest");
        let library = self.dir.join("data/library");
        fs::write(library.join(signed.digest().to_string()), signed.to_bytes()).expect("a file");
        fs::write(library.join(artifact.to_string()), file).expect("a file");
        let version = version.parse().expect("a version");
        let program = Program { digest: edge_core::id::Digest(artifact.0), version };
        Wanted {
            revision: edge_core::id::Digest(signed.digest().0),
            offer: Offer { program, floor: Version::default(), force: false },
        }
    }

    fn good(&self, n: u8) -> Wanted {
        self.bring(&system_file(BOARD, "0.2.0", &contents(n)), "0.2.0", &self.author)
    }

    fn ask(&self, request: &Request) {
        write_json(&self.dir.join("shared/ask").join(REQUEST), request, 0o600).expect("asked");
    }

    fn install(&self, wanted: &Wanted) -> Option<String> {
        self.ask(&Request::Install { ask: 7, revision: wanted.revision });
        assert_eq!(serve(&self.places()), Ok(Some(Then::Nothing)));
        self.view().refused.map(|refused| refused.reason)
    }

    /// The boot loader, as `boot.cmd` is written, and the image's start; the system that runs then.
    fn boot(&mut self) -> Contents {
        let mut record = self.record();
        self.slot = record.good;
        if let Some(tries) = record.trial {
            record = record.with_trial(tries.checked_sub(1));
            card::write(&self.dir.join("disk"), record).expect("written");
            if tries > 0 {
                self.slot = record.good.other();
            }
        }
        fs::remove_dir_all(self.dir.join("shared")).expect("in memory");
        fs::create_dir_all(self.dir.join("shared/ask")).expect("a folder");
        self.settle(When::AtStart);
        self.held(self.slot)
    }

    fn held(&self, slot: Slot) -> Contents {
        let read = |(path, part): (&PathBuf, &Vec<u8>)| {
            let mut bytes = fs::read(path).expect("a part");
            // A partition is longer than its root.
            if path == &self.paths(slot)[0] {
                bytes.truncate(part.len());
            }
            bytes
        };
        let paths = self.paths(slot);
        let lengths = if self.is_whole(slot, 1) { contents(1) } else { contents(0) };
        let mut parts = paths.iter().zip(&lengths).map(read);
        std::array::from_fn(|_| parts.next().expect("three parts"))
    }

    fn is_whole(&self, slot: Slot, n: u8) -> bool {
        let begins = |(path, part): (&PathBuf, Vec<u8>)| {
            fs::read(path).is_ok_and(|bytes| bytes.starts_with(&part))
        };
        self.paths(slot).iter().zip(contents(n)).all(begins)
    }

    /// What the keeper asks for once the system is well.
    fn keep(&self) -> Then {
        keep(&self.places()).expect("written")
    }
}

#[test]
fn a_system_is_written_tried_and_kept() {
    let mut card = Card::new();
    let wanted = card.good(1);
    assert_eq!(next(&card.view(), Some(&wanted), None), Next::Install);
    assert_eq!(card.install(&wanted), None);
    assert_eq!(next(&card.view(), Some(&wanted), Some(7)), Next::Restart);
    assert_eq!(card.record().trial, Some(2));
    card.ask(&Request::Restart);
    assert_eq!(serve(&card.places()), Ok(Some(Then::Restart)));
    assert_eq!(serve(&card.places()), Ok(None), "it is asked once");
    assert_eq!((card.boot(), card.slot), (contents(1), Slot::B));
    assert_eq!(next(&card.view(), Some(&wanted), None), Next::Wait);
    assert_eq!(card.keep(), Then::Nothing);
    assert_eq!(next(&card.view(), Some(&wanted), None), Next::Keep);
    assert_eq!(card.boot(), contents(1));
    // The next one goes into the other slot.
    let another = card.good(4);
    assert_eq!(card.install(&another), None);
    assert!(card.is_whole(Slot::A, 4) && card.is_whole(Slot::B, 1));
}

/// It is well in the moment in which nobody wants it any more: the keeper waits for the lock, and comes second.
#[test]
fn a_system_that_is_being_left_is_not_kept() {
    let mut card = Card::new();
    let wanted = card.good(1);
    assert_eq!(card.install(&wanted), None);
    assert_eq!((card.boot(), card.slot), (contents(1), Slot::B));
    card.ask(&Request::CallOff);
    assert_eq!(serve(&card.places()), Ok(Some(Then::Restart)));
    assert_eq!(card.keep(), Then::Restart);
    assert_eq!(card.record().good, Slot::A);
    assert_eq!((card.boot(), card.slot), (contents(0), Slot::A));
}

#[test]
fn a_system_that_does_not_come_up_is_left_and_said_why() {
    let mut card = Card::new();
    let wanted = card.good(1);
    assert_eq!(card.install(&wanted), None);
    for _ in 0..2 {
        let record = card.record();
        let tries = record.trial.expect("on trial") - 1;
        card::write(&card.dir.join("disk"), record.with_trial(Some(tries))).expect("written");
    }
    assert_eq!((card.boot(), card.slot), (contents(0), Slot::A));
    let Next::Fail(reason) = next(&card.view(), Some(&wanted), None) else { panic!("it goes on") };
    assert!(reason.contains("no start of it"), "{reason}");
    let again = card.install(&wanted).expect("it had its chance");
    assert!(again.contains("was taken back here before"), "{again}");
}

/// Whatever is not signed by an author of this gateway for this board leaves both slots alone.
#[test]
fn what_is_not_this_gateways_is_refused() {
    let card = Card::new();
    let file = system_file(BOARD, "0.2.0", &contents(1));
    let refused = |wanted: &Wanted, part: &str| {
        let reason = card.install(wanted).unwrap_or_default();
        assert!(reason.contains(part), "{reason}");
        assert!(card.is_whole(Slot::B, 0), "the slot was touched");
        assert_eq!(card.record(), BootRecord::FRESH);
    };
    let stranger = SigningKey::generate().expect("entropy");
    refused(&card.bring(&file, "0.2.0", &stranger), "key");
    let foreign = system_file("rpi4", "0.2.0", &contents(1));
    refused(&card.bring(&foreign, "0.2.0", &card.author), "it is for the board rpi4");
    refused(
        &card.bring(&file, "0.3.0", &card.author),
        "it calls itself 0.2.0, its deployment 0.3.0",
    );
    refused(&card.bring(b"#!/bin/sh\n", "0.2.0", &card.author), "not a system");
    let mut short = file.clone();
    short.truncate(file.len() - 1);
    refused(&card.bring(&short, "0.2.0", &card.author), "bytes");

    let wanted = card.good(1);
    let library = card.dir.join("data/library");
    let path = library.join(wanted.offer.program.digest.to_string());
    let mut changed = fs::read(&path).expect("a file");
    changed[700_000] ^= 1;
    fs::write(&path, changed).expect("a file");
    refused(&wanted, "not the one that was signed");
    fs::remove_file(&path).expect("it was there");
    std::os::unix::fs::symlink(card.dir.join("disk"), &path).expect("a link");
    refused(&wanted, "symbolic link");
}

#[test]
fn a_request_that_is_none_is_taken_away() {
    let card = Card::new();
    let path = card.dir.join("shared/ask").join(REQUEST);
    for text in ["", "{}", "\"Restart", "$(reboot)"] {
        fs::write(&path, text).expect("a file");
        assert!(serve(&card.places()).is_err(), "{text}");
        assert!(!path.exists());
    }
}

/// Only what was pinned by root counts, however the agent's user changes its data afterwards.
#[test]
fn nothing_counts_where_no_author_is_known() {
    let card = Card::new();
    let wanted = card.good(1);
    let places = Places { author_keys: Vec::new(), ..card.places() };
    card.ask(&Request::Install { ask: 7, revision: wanted.revision });
    assert_eq!(serve(&places), Ok(Some(Then::Nothing)));
    assert!(card.view().refused.is_some_and(|refused| refused.reason.contains("key")));
    let pinned = vec![card.author.public().to_string()];
    write_json(&card.dir.join("root/authors"), &pinned, 0o600).expect("pinned");
    card.ask(&Request::Install { ask: 8, revision: wanted.revision });
    assert_eq!(serve(&places), Ok(Some(Then::Nothing)));
    assert_eq!(card.view().refused, None);
}

#[test]
fn a_trial_by_hand_ends_before_its_slot_is_written() {
    let card = Card::new();
    card::write(&card.dir.join("disk"), card.record().with_trial(Some(2))).expect("written");
    let wanted = card.good(1);
    let mut seen = Vec::new();
    card.ask(&Request::Install { ask: 7, revision: wanted.revision });
    let done = serve_by(&card.places(), &mut |step| {
        if step == "forget the slot" {
            seen.push(card.record().trial);
        }
        Ok(())
    });
    assert_eq!((done, seen), (Ok(Some(Then::Nothing)), vec![None]));
}

#[test]
fn what_is_called_off_does_not_run_again() {
    let mut card = Card::new();
    let wanted = card.good(1);
    assert_eq!(card.install(&wanted), None);
    card.ask(&Request::CallOff);
    assert_eq!(serve(&card.places()), Ok(Some(Then::Nothing)), "it never ran");
    assert_eq!((card.boot(), card.view().system.failures), (contents(0), Vec::new()));
    assert_eq!(card.install(&wanted), None);
    assert_eq!(card.boot(), contents(1));
    card.ask(&Request::CallOff);
    assert_eq!(serve(&card.places()), Ok(Some(Then::Restart)));
    assert_eq!((card.boot(), card.view().system.failures), (contents(0), Vec::new()));
}

fn cut() -> io::Error {
    io::Error::other("the power is cut")
}

/// What is written before a cut is there here, as on a card that does what it is told; the piece in work is torn.
fn tear(root: &Path) {
    let mut bytes = fs::read(root).expect("a root");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x5a);
    fs::write(root, bytes).expect("a root");
}

/// The power goes at each step: the machine starts the system before, or the new one as a whole; and in the
/// end the new one is kept, when the agent goes on as it does.
#[test]
fn a_cut_at_any_step_leaves_a_system_that_starts() {
    let mut n = 0;
    loop {
        let mut card = Card::new();
        let wanted = card.good(1);
        card.ask(&Request::Install { ask: 7, revision: wanted.revision });
        let mut left = n;
        let mut cut_at = None;
        // Whatever the helper would still do after the cut was not done: a panic ends it.
        let places = card.places();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            serve_by(&places, &mut |step| {
                if left == 0 {
                    cut_at = Some(step.to_owned());
                    std::panic::resume_unwind(Box::new(cut()));
                }
                left -= 1;
                Ok(())
            })
        }));
        if run.is_ok() {
            assert!(n > 8, "{n} steps");
            return;
        }
        let step = cut_at.expect("it was cut");
        if step == "write a piece" {
            tear(&card.paths(Slot::B)[0]);
        }
        assert_eq!((card.boot(), card.slot), (contents(0), Slot::A), "cut before `{step}`");
        assert_eq!(next(&card.view(), Some(&wanted), None), Next::Install, "cut before `{step}`");
        assert_eq!(card.install(&wanted), None, "cut before `{step}`");
        assert_eq!((card.boot(), card.slot), (contents(1), Slot::B), "cut before `{step}`");
        card.keep();
        assert_eq!(next(&card.view(), Some(&wanted), None), Next::Keep);
        n += 1;
    }
}

/// A card that takes nothing any more: nothing is on trial, and the reason is told.
#[test]
fn an_error_at_any_step_leaves_nothing_on_trial() {
    let mut n = 0;
    loop {
        let mut card = Card::new();
        let wanted = card.good(1);
        card.ask(&Request::Install { ask: 7, revision: wanted.revision });
        let mut left: i32 = n;
        let done = serve_by(&card.places(), &mut |_| {
            let fails = left == 0;
            left = left.wrapping_sub(1);
            if fails { Err(cut()) } else { Ok(()) }
        });
        assert_eq!(done, Ok(Some(Then::Nothing)));
        let Some(refused) = card.view().refused else { return assert!(n > 8) };
        assert!(refused.reason.contains("the power is cut"), "{}", refused.reason);
        assert_eq!(card.view().system.trial, None);
        assert_eq!((card.boot(), card.slot), (contents(0), Slot::A));
        n += 1;
    }
}

/// Of a gateway that was enrolled, with this author pinned.
fn identity(author: &SigningKey) -> crate::identity::Identity {
    let enrolled = sync_protocol::enroll::Enrolled {
        certificate: vec![1],
        gateway_ca: vec![2],
        endpoint: "cloud.example:8883".to_owned(),
        instance: sync_protocol::id::InstanceId([3; 16]),
        author_keys: vec![author.public()],
    };
    crate::identity::Identity::new("gw".to_owned(), vec![4], enrolled)
}

/// The agent's user puts an identity of its own, or something that is none, where the gateway's belongs.
#[test]
fn authors_are_noted_at_the_first_start_or_by_an_enrolment() {
    let card = Card::new();
    let pinned = || read_json::<Vec<String>>(&card.dir.join("root/authors")).expect("a note");
    assert!(pinned().is_empty(), "nobody enrolled it");
    let own = identity(&card.author);
    own.save(&card.dir.join("data")).expect("a file");
    card.settle(When::AtStart);
    assert!(pinned().is_empty(), "it came later");
    super::helper::pin_authors(&card.places(), true).expect("enrolled");
    assert_eq!(pinned(), [card.author.public().to_string()]);
    let path = card.dir.join("data/identity");
    fs::remove_file(&path).expect("it was there");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    assert!(super::helper::pin_authors(&card.places(), true).is_err());
    assert_eq!(pinned(), [card.author.public().to_string()]);
}

/// On FAT a file whose length was being changed when the power went cannot be written any more.
#[test]
fn what_was_not_written_to_its_end_is_made_anew() {
    use std::os::unix::fs::MetadataExt as _;
    let card = Card::new();
    let inode = || fs::metadata(&card.paths(Slot::B)[1]).expect("a kernel").ino();
    // So that no number is used again.
    let _held = fs::File::open(&card.paths(Slot::B)[1]).expect("a kernel");
    let flashed = inode();
    let wanted = card.good(1);
    assert_eq!(card.install(&wanted), None);
    assert_ne!(inode(), flashed, "nobody knows whether what was flashed is whole");
    assert!(card.is_whole(Slot::B, 1));
}

/// The head that is believed is the one that was hashed.
#[test]
fn what_is_changed_after_it_was_verified_is_found_out() {
    let card = Card::new();
    let wanted = card.good(1);
    let path = card.dir.join("data/library").join(wanted.offer.program.digest.to_string());
    let forged = system_file(BOARD, "0.2.0", &contents(9));
    card.ask(&Request::Install { ask: 7, revision: wanted.revision });
    let done = serve_by(&card.places(), &mut |step| {
        if step == "forget the slot" {
            let mut file = fs::read(&path).expect("a file");
            file[..forged.len().min(4_096)].copy_from_slice(&forged[..4_096]);
            fs::write(&path, &file).expect("a file");
        }
        Ok(())
    });
    assert_eq!(done, Ok(Some(Then::Nothing)));
    let refused = card.view().refused.expect("it was changed");
    assert!(refused.reason.contains("the file was changed"), "{}", refused.reason);
    assert_eq!(card.view().system.trial, None);
}
