//! Attempts during which the process died.
//!
//! # Rules
//! - A crash of the process counts apart; an event is given up at `crashes_max` of them, the last
//!   of which must have come while it was alone in work: in company another may be to blame.
//! - A batch is company. Which of its events did it is not known, so the first one is a suspect like
//!   any, and all that its function had at the start go alone for the life of this process: if one
//!   of them kills it again, that one is named.
//! - A crash before the event was durable leaves no row. Its likeness is kept: the repeat that its
//!   sender makes has one crash behind it ([`Event::likeness`](crate::op::Event::likeness)).

use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::input::Crumb;
use crate::op::{CoreOp, DeadReason, Progress};
use crate::outcome::FaultKind;
use crate::turn::Turn;

use super::Core;
use super::apps::Trial;

impl Core {
    /// A breadcrumb tells that the process died during an attempt.
    pub(super) fn crashed(&mut self, crumb: &Crumb, turn: &mut Turn<'_>) {
        let Crumb { job: id, run, function, .. } = crumb;
        let (id, run) = (*id, *run);
        if crumb.batched {
            self.queue.limit_all(function);
        }
        let Some(job) = self.queue.get(id).filter(|job| job.event.id == crumb.event) else {
            turn.event(CoreEvent::StaleBreadcrumb { job: id, run });
            self.strays.insert((function.clone(), crumb.likeness));
            let trial = self.apps.crash(function.app());
            return self.tell_probation(function.app(), trial, turn);
        };
        if run <= job.progress.runs || self.queue.is_running(id) {
            turn.event(CoreEvent::StaleBreadcrumb { job: id, run });
            return;
        }
        let mut progress = Progress { runs: run, ..job.progress.clone() };
        let trial = self.apps.crash(function.app());
        let crashes_max = self.settings.limits.crashes_max;
        let crashes = progress.crashes.saturating_add(1);
        let alone = crumb.alone && !crumb.batched;
        if trial == Trial::NotOnProbation && (alone || crashes < crashes_max) {
            progress.crashes = crashes;
            progress.last_error = Some(format!("{}: the process died", FaultKind::Crashed));
        }
        let crashes = progress.crashes;
        turn.event(CoreEvent::CrashCounted { job: id, function: function.clone(), crashes });
        turn.op(CoreOp::UpdateJob { job: id, progress: progress.clone() }, Pace::Prompt);
        self.queue.set_progress(id, progress, turn.at());
        if crashes >= crashes_max {
            self.give_up(id, DeadReason::Crashed, None, turn);
        }
        self.tell_probation(function.app(), trial, turn);
    }
}
