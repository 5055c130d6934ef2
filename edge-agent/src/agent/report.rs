//! Where the deployments stand, in the words of the sync protocol.

use edge_core::reconcile::{AppLedger, Phase as WorkPhase, Reconciler};
use sync_protocol::id::{Digest, InstanceId};
use sync_protocol::record::Phase;
use sync_protocol::wire::{AppState, StateReport};

use super::deploy::foreign;

/// What was last reported of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Revision.
    pub revision: Digest,
    /// Phase.
    pub phase: Phase,
}

/// The whole statement.
#[must_use]
pub(super) fn state(reconciler: &Reconciler) -> StateReport {
    let ledger = reconciler.ledger();
    let in_work = reconciler.in_work();
    let apps = ledger.apps.iter().filter_map(|(name, app)| {
        let work = in_work.filter(|(app, ..)| app == name);
        app_state(name, app, work.map(|(_, target, phase)| (target, phase)))
    });
    StateReport {
        instance: ledger.instance.map(InstanceId),
        generation: ledger.generation,
        apps: apps.collect(),
    }
}

/// How far a revision of an app is; `None` where nothing is done about it yet.
#[must_use]
pub(super) fn phase(reconciler: &Reconciler, app: &str, revision: Digest) -> Option<Phase> {
    let apps = state(reconciler).apps;
    apps.iter().find(|row| row.app == app && row.revision == revision).map(|row| row.phase)
}

fn app_state(
    name: &str,
    app: &AppLedger,
    work: Option<(Option<edge_core::id::Digest>, WorkPhase)>,
) -> Option<AppState> {
    let running = app.live.as_ref().map(|live| foreign(live.digest));
    let state = |revision, phase, reason: &str| AppState {
        app: name.to_owned(),
        revision,
        phase,
        reason: reason.to_owned(),
        running,
    };
    if let Some(failed) = &app.failed {
        let phase = if failed.taken_back { Phase::TakenBack } else { Phase::Failed };
        return Some(state(foreign(failed.revision), phase, &failed.reason));
    }
    if let Some((Some(target), phase)) = work {
        let phase = match phase {
            WorkPhase::Fetching => Phase::Fetching,
            WorkPhase::Verifying => Phase::Verifying,
            WorkPhase::Preparing => Phase::Preparing,
        };
        return Some(state(foreign(target), phase, ""));
    }
    let phase = if app.on_probation { Phase::Probation } else { Phase::Live };
    running.map(|revision| state(revision, phase, ""))
}

/// The ledger for `edge-agent status`.
#[must_use]
pub(super) fn json(reconciler: &Reconciler) -> serde_json::Value {
    let report = state(reconciler);
    let apps = report.apps.iter().map(|app| {
        serde_json::json!({
            "app": app.app,
            "revision": app.revision.to_string(),
            "phase": app.phase.as_str(),
            "reason": app.reason,
            "running": app.running.map(|digest| digest.to_string()),
        })
    });
    serde_json::json!({ "generation": report.generation, "apps": apps.collect::<Vec<_>>() })
}
