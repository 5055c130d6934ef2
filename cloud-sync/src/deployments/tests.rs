use sync_protocol::manifest::{FORMAT, Manifest};
use sync_protocol::record::Phase;
use sync_protocol::wire::{AppState, StateReport, Up};
use sync_protocol::{SignedManifest, SigningKey};

use super::*;
use crate::ingest::take;
use crate::store::fleet::AlarmRow;
use crate::store::revisions::RevisionRow;
use crate::store::sqlite::SqliteStore;
use crate::store::{self, StoreError};

const NOW_MS: u64 = 1_790_000_000_000;
const INSTANCE: InstanceId = InstanceId([7; 16]);
const MAKER: Maker<'static> = Maker { by: "admin", now_ms: NOW_MS };

struct Cloud {
    store: SqliteStore,
    key: SigningKey,
    _temp: tempfile::TempDir,
}

impl Cloud {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&temp.path().join("cloud.db")).unwrap();
        let cloud = Self { store, key: SigningKey::generate().unwrap(), _temp: temp };
        for name in ["gw-a", "gw-b"] {
            cloud.write(|rows| Ok(rows.add_gateway(name, NOW_MS)?)).unwrap();
        }
        cloud
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Rows) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        store::write(&self.store, work)
    }

    fn revision(&self, app: &str, sequence: u64, floor: u64) -> Digest {
        let function = serde_json::json!({"artifact": Digest::of(b"wasm"), "size": 4});
        let manifest = Manifest {
            format: FORMAT,
            app: app.into(),
            version: sequence.to_string(),
            sequence,
            floor,
            functions: [("f".to_owned(), serde_json::from_value(function).unwrap())].into(),
            triggers: std::collections::BTreeMap::new(),
            records: std::collections::BTreeMap::new(),
            firmware: std::collections::BTreeMap::new(),
            agent: None,
            system: None,
        };
        let signed = SignedManifest::sign(&manifest, &self.key).unwrap();
        let row = RevisionRow {
            digest: signed.digest(),
            app: app.into(),
            version: manifest.version.clone(),
            sequence,
            floor,
            key: signed.key,
            uploaded_ms: NOW_MS,
        };
        let artifacts = [(Digest::of(b"wasm"), 4)];
        assert!(
            self.write(|rows| Ok(rows.add_revision(&row, &signed, &artifacts)?)).unwrap(),
            "it is new"
        );
        row.digest
    }

    fn deploy(&self, revision: Digest, gateways: Option<&[&str]>) -> Result<u64, Failure> {
        let names: Option<Vec<String>> =
            gateways.map(|names| names.iter().map(ToString::to_string).collect());
        self.write(|rows| {
            let target = target(rows, names.as_deref())?;
            Ok(deploy(rows, &revision, target, MAKER)?.id)
        })
    }

    fn desired(&self, gateway: &str) -> (u64, Vec<(String, Digest)>) {
        let desired: Result<_, StoreError> = store::read(&self.store, |rows| {
            let id = rows.gateway(gateway)?.unwrap().id;
            desired(rows, INSTANCE, id)
        });
        let desired = desired.unwrap();
        let apps = desired.apps.into_iter().map(|app| (app.app, app.revision)).collect();
        (desired.generation, apps)
    }

    fn report(&self, gateway: &str, generation: u64, apps: Vec<AppState>) {
        let report = StateReport { instance: Some(INSTANCE), generation, apps };
        self.write(|rows| {
            let id = rows.gateway(gateway)?.unwrap().id;
            Ok(take(rows, INSTANCE, id, &Up::StateReport(report), NOW_MS)?)
        })
        .unwrap();
    }

    fn alarm_rows(&self) -> Vec<AlarmRow> {
        let alarms: Result<_, StoreError> = store::read(&self.store, |rows| rows.alarms(None, 10));
        alarms.unwrap()
    }

    fn alarms(&self) -> Vec<String> {
        self.alarm_rows().into_iter().map(|alarm| alarm.code).collect()
    }

    fn alarm_count(&self) -> u64 {
        self.alarm_rows().iter().map(|alarm| alarm.count).sum()
    }

    /// How many deployments there are.
    fn rows(&self) -> usize {
        let all: Result<_, StoreError> =
            store::read(&self.store, |rows| rows.deployments(None, u64::MAX, 1_000));
        all.unwrap().len()
    }

    fn progress(&self, deployment: u64) -> Vec<(String, Progress, String)> {
        let progress: Result<_, StoreError> = store::read(&self.store, |rows| {
            progress(rows, INSTANCE, &rows.deployment(deployment)?.unwrap())
        });
        progress.unwrap().into_iter().map(|p| (p.gateway, p.progress, p.reason)).collect()
    }
}

fn state(revision: Digest, phase: Phase, reason: &str, running: Option<Digest>) -> AppState {
    AppState { app: "app".into(), revision, phase, reason: reason.into(), running }
}

#[test]
fn the_newest_deployment_for_a_gateway_counts() {
    let cloud = Cloud::new();
    assert_eq!(cloud.desired("gw-a"), (0, vec![]));
    let (one, two) = (cloud.revision("app", 1, 0), cloud.revision("app", 2, 0));
    let other = cloud.revision("other", 1, 0);
    let first = cloud.deploy(one, None).unwrap();
    let second = cloud.deploy(two, Some(&["gw-b"])).unwrap();
    assert_eq!(cloud.desired("gw-a"), (first, vec![("app".into(), one)]));
    assert_eq!(cloud.desired("gw-b"), (second, vec![("app".into(), two)]));
    let third = cloud.deploy(other, Some(&["gw-a"])).unwrap();
    let both = vec![("app".to_owned(), one), ("other".to_owned(), other)];
    assert_eq!(cloud.desired("gw-a"), (third, both));
    assert_eq!(cloud.desired("gw-b").0, second, "nothing changed for it");
    cloud.write(|rows| Ok(rows.add_gateway("gw-late", NOW_MS)?)).unwrap();
    assert_eq!(cloud.desired("gw-late"), (first, vec![("app".into(), one)]));
}

#[test]
fn undeploy_takes_the_app_off_with_a_new_generation() {
    let cloud = Cloud::new();
    let one = cloud.revision("app", 1, 0);
    let first = cloud.deploy(one, None).unwrap();
    let row = cloud.write(|rows| undeploy(rows, "app", Target::All, MAKER)).unwrap();
    assert!(row.id > first);
    assert_eq!(cloud.desired("gw-a"), (row.id, vec![]));
    assert!(cloud.write(|rows| undeploy(rows, "nothing", Target::All, MAKER)).is_err());
    cloud.report("gw-a", row.id, vec![]);
    let progress = cloud.progress(row.id);
    assert_eq!(progress[0], ("gw-a".into(), Progress::Removed, String::new()));
    assert_eq!(progress[1].1, Progress::Pending);
}

#[test]
fn rollback_goes_to_the_revision_before_of_the_same_target() {
    let cloud = Cloud::new();
    let back = |target| cloud.write(|rows| rollback(rows, "app", target, MAKER));
    assert!(back(Target::All).is_err(), "never deployed");
    let [one, two, three] = [1, 2, 3].map(|n| cloud.revision("app", n, 0));
    cloud.deploy(one, None).unwrap();
    assert!(back(Target::All).unwrap_err().error.contains("no earlier"));
    cloud.deploy(two, None).unwrap();
    cloud.deploy(two, None).unwrap();
    cloud.deploy(three, Some(&["gw-b"])).unwrap();
    let row = back(Target::All).unwrap();
    assert_eq!((row.revision, row.cause), (Some(one), Cause::Rollback));
    assert_eq!(cloud.desired("gw-a").1, [("app".into(), one)]);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let cloud = Cloud::new();
    let one = cloud.revision("app", 1, 0);
    assert!(cloud.deploy(Digest([9; 32]), None).unwrap_err().error.contains("no revision"));
    assert!(cloud.deploy(one, Some(&["gw-x"])).unwrap_err().error.contains("gw-x"));
    assert!(cloud.deploy(one, Some(&[])).is_err());
    let four = cloud.revision("app", 4, 3);
    let id = cloud.deploy(four, None).unwrap();
    assert!(cloud.deploy(one, None).is_ok(), "nobody accepted the floor yet");
    cloud.report("gw-a", id, vec![state(four, Phase::Live, "", Some(four))]);
    let refused = cloud.deploy(one, None).unwrap_err();
    assert!(refused.error.contains("below the floor 3"), "{refused}");
}

#[test]
fn progress_follows_what_gateways_report() {
    let cloud = Cloud::new();
    let (one, two) = (cloud.revision("app", 1, 0), cloud.revision("app", 2, 0));
    let first = cloud.deploy(one, None).unwrap();
    let pending = |gateway: &str| (gateway.to_owned(), Progress::Pending, String::new());
    assert_eq!(cloud.progress(first), [pending("gw-a"), pending("gw-b")]);
    cloud.report("gw-a", first, vec![state(one, Phase::Live, "", Some(one))]);
    assert_eq!(cloud.progress(first)[0].1, Progress::Live);

    let second = cloud.deploy(two, None).unwrap();
    assert_eq!(cloud.progress(first)[0].1, Progress::Superseded);
    assert_eq!(cloud.progress(second)[0], pending("gw-a"), "it still speaks of the first");
    cloud.report("gw-a", second, vec![state(two, Phase::TakenBack, "trap in f", Some(one))]);
    let expected = ("gw-a".to_owned(), Progress::TakenBack, "trap in f".to_owned());
    assert_eq!(cloud.progress(second)[0], expected);

    let third = cloud.deploy(one, None).unwrap();
    cloud.report("gw-a", third, vec![state(two, Phase::TakenBack, "trap in f", Some(one))]);
    assert_eq!(cloud.progress(third)[0].1, Progress::Live, "it runs that already");
    cloud.report("gw-a", 0, vec![]);
    assert_eq!(cloud.progress(third)[0], pending("gw-a"), "its ledger was lost");
}

#[test]
fn after_a_restore_from_a_backup_a_gateway_is_still_told_what_to_run() {
    let cloud = Cloud::new();
    let (one, two) = (cloud.revision("app", 1, 0), cloud.revision("app", 2, 0));
    let first = cloud.deploy(one, None).unwrap();
    // More was deployed after the backup: the gateways have taken it, and run another revision;
    // what this control plane says now must be news to them.
    let (lost, other) = (first + 9_000, Digest([9; 32]));
    cloud.report("gw-a", lost, vec![state(other, Phase::Live, "", Some(other))]);
    let (generation, apps) = cloud.desired("gw-a");
    assert!(generation > lost, "{generation}");
    assert_eq!(apps, [("app".to_owned(), one)]);
    assert_eq!(cloud.progress(first)[0].1, Progress::Pending, "it has not taken it up again");
    assert_eq!(cloud.alarms(), ["control-plane-behind"]);

    // It takes it; nothing is stated again, and the next deployment goes on from there.
    cloud.report("gw-a", generation, vec![state(one, Phase::Live, "", Some(one))]);
    assert_eq!(cloud.desired("gw-a").0, generation);
    assert_eq!(cloud.progress(first)[0].1, Progress::Live);
    let second = cloud.deploy(two, None).unwrap();
    let (generation, apps) = cloud.desired("gw-a");
    assert!(generation > lost + 1, "{generation}");
    assert_eq!(apps, [("app".to_owned(), two)]);
    assert_eq!(cloud.progress(second)[0].1, Progress::Pending);
    cloud.report("gw-a", generation, vec![state(two, Phase::Live, "", Some(two))]);
    assert_eq!(cloud.progress(second)[0].1, Progress::Live);

    // A second backup is put back, from before the base was known.
    cloud.report("gw-a", generation + 50, vec![]);
    assert!(cloud.desired("gw-a").0 > generation + 50);
    assert_eq!(cloud.rows(), 2, "nothing was deployed for all that");
}

#[test]
fn a_restored_control_plane_that_knows_no_deployment_goes_on_above_the_gateways() {
    let cloud = Cloud::new();
    let one = cloud.revision("app", 1, 0);
    let lost = NOW_MS / 1_000 + 77;
    let said = || vec![state(one, Phase::Live, "", Some(one))];
    cloud.report("gw-a", lost, said());
    cloud.report("gw-a", lost, said());
    assert_eq!(cloud.desired("gw-a"), (0, vec![]), "nothing is taken off for it");
    assert_eq!(cloud.alarm_count(), 1, "it is told once");
    let id = cloud.deploy(one, None).unwrap();
    assert!(cloud.desired("gw-a").0 > lost);
    assert_eq!(cloud.desired("gw-b").0, id, "what one gateway says is nothing to another");
}

/// A stolen or broken gateway may name any generation: that is its own trouble.
#[test]
fn no_generation_of_a_gateway_moves_what_others_are_told() {
    let cloud = Cloud::new();
    let one = cloud.revision("app", 1, 0);
    let first = cloud.deploy(one, None).unwrap();
    for said in [u64::MAX, i64::MAX as u64, i64::MAX as u64 - 1, CLAIMED_GENERATION_MAX + 1] {
        cloud.report("gw-a", said, vec![]);
        assert_eq!(cloud.desired("gw-a").0, first, "{said} is not believed");
    }
    assert_eq!(cloud.alarms(), ["absurd-generation"]);
    // A little more than it is told, again and again.
    for _ in 0..100 {
        cloud.report("gw-a", cloud.desired("gw-a").0 + 1, vec![]);
    }
    cloud.report("gw-a", CLAIMED_GENERATION_MAX, vec![]);
    assert_eq!(cloud.desired("gw-a").0, CLAIMED_GENERATION_MAX + 1);
    assert_eq!(cloud.rows(), 1, "no deployment was added");
    let second = cloud.deploy(cloud.revision("app", 2, 0), None).unwrap();
    assert_eq!(second, first + 1);
    assert_eq!(cloud.desired("gw-b").0, second);
    assert!(cloud.desired("gw-a").0 > CLAIMED_GENERATION_MAX + 1, "it goes on, too");
}

/// The backup knows nothing of the deployment that the fleet has taken; it is made again, otherwise,
/// before any gateway is back to say what it has.
#[test]
fn what_is_deployed_after_a_restore_has_another_number_than_what_was_lost() {
    let (lost, restored) = (Cloud::new(), Cloud::new());
    let at = |cloud: &Cloud, minutes: u64, sequence| {
        let revision = cloud.revision("app", sequence, 0);
        let maker = Maker { by: "admin", now_ms: NOW_MS + minutes * 60_000 };
        cloud.write(|rows| Ok(deploy(rows, &revision, Target::All, maker)?.id)).unwrap()
    };
    assert_eq!(at(&lost, 0, 1), at(&restored, 0, 1), "this is in the backup");
    let (taken, again) = (at(&lost, 5, 5), at(&restored, 6, 6));
    assert!(again > taken, "{again} is news to who has taken {taken}");
    let back = at(&restored, 0, 7);
    assert_eq!(back, again + 1, "a clock that goes back takes no number back");
    let told = restored.desired("gw-a").0;
    assert_eq!(told, back);
}
