//! Live revisions, and those that have yet to prove themselves.
//!
//! # Rules (DESIGN, section 4, deployments)
//! - On probation, a fault does not count as an attempt: the event stays first in its lane. At
//!   `faults_max` faults or `crashes_max` crashes of the process the revision has failed; it
//!   starts nothing more, and the shell brings back the last good one.
//! - It is kept after `successes` good attempts or `span` of gateway time, as the policy says.
//! - A held probation goes on after that, until it is ended from outside: that it would be over is told
//!   once in a life.
//! - The counts are a row of the store: a crash of the process does not reset them. One end of the
//!   process counts once, however many attempts of the app were in work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::deadline::Deadlines;
use crate::id::Digest;
use crate::op::ProbationMark;
use crate::release::{ProbationPolicy, Release, SeriesPolicy};
use crate::status::AppStatus;
use crate::time::Millis;

#[derive(Clone, Debug)]
struct App {
    release: Arc<Release>,
    /// `None`: it has proved itself, or never had to.
    policy: Option<ProbationPolicy>,
    /// It was told that a held probation would be over.
    met: bool,
    /// A swap is being prepared.
    quiescing: bool,
}

/// What an attempt means for a revision on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    NotOnProbation,
    /// Noted; it goes on.
    Goes,
    Passed,
    Failed,
}

#[derive(Clone, Debug)]
pub(super) struct Apps {
    apps: BTreeMap<String, App>,
    /// Counts of those on probation; after a restart also of those not active yet.
    marks: BTreeMap<String, ProbationMark>,
    /// Apps for which the end of the former process is counted.
    crashed: BTreeSet<String>,
    spans: Deadlines<String>,
}

impl Apps {
    pub(super) fn new(marks: Vec<ProbationMark>) -> Self {
        let marks = marks.into_iter().map(|mark| (mark.app.clone(), mark)).collect();
        Self { apps: BTreeMap::new(), marks, crashed: BTreeSet::new(), spans: Deadlines::new() }
    }

    pub(super) fn release(&self, app: &str) -> Option<Arc<Release>> {
        self.apps.get(app).map(|app| app.release.clone())
    }

    /// What the live revision says of a record series.
    pub(super) fn series_policy(&self, app: &str, series: &str) -> SeriesPolicy {
        let release = self.apps.get(app).map(|app| &app.release);
        release.and_then(|release| release.series.get(series)).copied().unwrap_or_default()
    }

    pub(super) fn mark(&self, app: &str) -> Option<&ProbationMark> {
        self.marks.get(app)
    }

    pub(super) fn on_probation(&self, app: &str) -> bool {
        self.marks.contains_key(app)
    }

    pub(super) fn has_failed(&self, app: &str) -> bool {
        self.marks.get(app).is_some_and(|mark| mark.failed.is_some())
    }

    /// Whether the app starts nothing for now.
    pub(super) fn is_stopped(&self, app: &str) -> bool {
        self.has_failed(app) || self.is_quiescing(app)
    }

    pub(super) fn is_quiescing(&self, app: &str) -> bool {
        self.apps.get(app).is_some_and(|app| app.quiescing)
    }

    pub(super) fn set_quiescing(&mut self, app: &str, quiescing: bool) {
        if let Some(app) = self.apps.get_mut(app) {
            app.quiescing = quiescing;
        }
    }

    /// Makes a revision the live one. Returns whether the mark changed, and with it its row.
    pub(super) fn insert(
        &mut self,
        release: Arc<Release>,
        policy: Option<ProbationPolicy>,
        now: Millis,
    ) -> bool {
        let name = release.app.clone();
        let revision = release.revision;
        self.apps.insert(name.clone(), App { release, policy, met: false, quiescing: false });
        self.spans.clear(&name);
        let Some(policy) = policy else { return self.marks.remove(&name).is_some() };
        let goes_on = self.marks.get(&name).is_some_and(|mark| mark.revision == revision);
        if !goes_on {
            let mark = ProbationMark {
                app: name.clone(),
                revision,
                since: now,
                successes: 0,
                faults: 0,
                crashes: 0,
                failed: None,
            };
            self.marks.insert(name.clone(), mark);
        }
        if let Some(span) = policy.span.filter(|_| !self.has_failed(&name)) {
            let since = self.marks[&name].since;
            self.spans.set(name, since + span);
        }
        !goes_on
    }

    /// Returns whether there was a mark, and with it its row.
    pub(super) fn remove(&mut self, app: &str) -> bool {
        self.apps.remove(app);
        self.spans.clear(&app.to_owned());
        self.marks.remove(app).is_some()
    }

    pub(super) fn success(&mut self, app: &str) -> Trial {
        let Some(mark) = self.marks.get_mut(app) else { return Trial::NotOnProbation };
        mark.successes = mark.successes.saturating_add(1);
        let policy = self.apps.get(app).and_then(|app| app.policy);
        match policy.and_then(|policy| policy.successes) {
            Some(enough) if mark.successes >= enough => Trial::Passed,
            _ => Trial::Goes,
        }
    }

    pub(super) fn fault(&mut self, app: &str, error: &str) -> Trial {
        let faults_max = self.policy(app).faults_max;
        let Some(mark) = self.marks.get_mut(app) else { return Trial::NotOnProbation };
        mark.faults = mark.faults.saturating_add(1);
        if mark.faults < faults_max {
            return Trial::Goes;
        }
        mark.failed.get_or_insert_with(|| error.to_owned());
        self.spans.clear(&app.to_owned());
        Trial::Failed
    }

    /// Counts also for an app that is not active yet after the restart.
    pub(super) fn crash(&mut self, app: &str) -> Trial {
        let crashes_max = self.policy(app).crashes_max;
        let Some(mark) = self.marks.get_mut(app) else { return Trial::NotOnProbation };
        if self.crashed.insert(app.to_owned()) {
            mark.crashes = mark.crashes.saturating_add(1);
        }
        if mark.crashes < crashes_max {
            return Trial::Goes;
        }
        let crashes = mark.crashes;
        mark.failed.get_or_insert_with(|| format!("the process died {crashes} times"));
        self.spans.clear(&app.to_owned());
        Trial::Failed
    }

    /// Spans begin now: before, nothing ran. Returns the apps whose marks changed.
    pub(super) fn begin_spans(&mut self, now: Millis) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, app) in &self.apps {
            let span = app.policy.and_then(|policy| policy.span);
            if let Some(mark) = self.marks.get_mut(name)
                && let Some(span) = span.filter(|_| mark.failed.is_none())
            {
                mark.since = now;
                self.spans.set(name.clone(), now + span);
                changed.push(name.clone());
            }
        }
        changed
    }

    /// An app whose span is over: it has passed.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<String> {
        self.spans.pop_due(now)
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.spans.first()
    }

    /// Whether somebody else has to agree to the end of a probation.
    pub(super) fn is_held(&self, app: &str) -> bool {
        self.policy(app).held
    }

    /// A held probation would be over. Returns the revision, the first time.
    pub(super) fn meet(&mut self, app: &str) -> Option<Digest> {
        let met = &mut self.apps.get_mut(app)?.met;
        let is_news = !std::mem::replace(met, true);
        self.marks.get(app).map(|mark| mark.revision).filter(|_| is_news)
    }

    /// Ends a probation. Returns the revision.
    pub(super) fn pass(&mut self, app: &str) -> Option<Digest> {
        self.spans.clear(&app.to_owned());
        if let Some(app) = self.apps.get_mut(app) {
            app.policy = None;
        }
        self.marks.remove(app).map(|mark| mark.revision)
    }

    pub(super) fn status(&self) -> Vec<AppStatus> {
        let one = |(name, app): (&String, &App)| AppStatus {
            app: name.clone(),
            revision: app.release.revision.to_string(),
            on_probation: self.on_probation(name),
            stopped: if self.has_failed(name) {
                Some("its revision failed the probation")
            } else {
                app.quiescing.then_some("a swap is being prepared")
            },
        };
        self.apps.iter().map(one).collect()
    }

    fn policy(&self, app: &str) -> ProbationPolicy {
        self.apps.get(app).and_then(|app| app.policy).unwrap_or_default()
    }
}
