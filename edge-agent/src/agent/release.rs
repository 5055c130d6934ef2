//! A verified manifest, resolved for the core and for the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_core::id::{Digest, FunctionId, StreamId, TriggerId};
use edge_core::pattern::EventFilter;
use edge_core::release as core;
use edge_core::time::Millis;
use edge_core::topic::TopicFilter;
use sync_protocol::manifest::{
    Durability, Function, Jitter, Manifest, MissedSlots, Priority, Series, SeriesDrop, Source,
    StateScope, Trigger, WhenFull, Woken, woken,
};
use sync_protocol::revision::VerifiedRevision;

use self::destinations::End;
use crate::runtime::{FunctionProfile, Grants, Limits, Needs};

mod destinations;

/// The release as the core takes it.
///
/// # Errors
/// A topic or schedule that this gateway does not understand, with its path.
pub(super) fn resolve(revision: &VerifiedRevision) -> Result<core::Release, String> {
    let manifest = revision.manifest();
    let app = &manifest.app;
    let functions = manifest.functions.iter().map(|(name, function)| {
        function_spec(app, name, function).map_err(|why| format!("functions.{name}: {why}"))
    });
    let mut triggers = Vec::new();
    for (name, trigger) in &manifest.triggers {
        let spec = trigger_spec(manifest, name, trigger);
        triggers.push(spec.map_err(|why| format!("triggers.{name}: {why}"))?);
        triggers.extend(destinations::triggers(app, name, trigger));
    }
    Ok(core::Release {
        app: app.clone(),
        revision: Digest(revision.digest().0),
        functions: functions.collect::<Result<_, _>>()?,
        triggers,
        series: manifest.records.iter().map(|(name, at)| (name.clone(), series(at))).collect(),
    })
}

fn function_spec(app: &str, name: &str, function: &Function) -> Result<core::FunctionSpec, String> {
    let ordered = function.ordered.as_deref();
    let ordered =
        ordered.map(|text| text.parse().map_err(|err| format!("ordered: {text:?} {err}")));
    Ok(core::FunctionSpec {
        id: function_id(app, name),
        state: scope(function.state),
        state_version: function.state_version,
        concurrency: function.limits.concurrency,
        when_full: match function.when_full {
            WhenFull::Hold => core::WhenFull::Hold,
            WhenFull::ShedNewest => core::WhenFull::ShedNewest,
            WhenFull::ShedOldest => core::WhenFull::ShedOldest,
            WhenFull::LatestPerKey => core::WhenFull::LatestPerKey,
        },
        ordered: ordered.transpose()?,
        reserved: function.limits.reserved,
        pause: core::PausePolicy {
            after: function.pause.after,
            ms_min: Millis(function.pause.ms_min),
            ms_max: Millis(function.pause.ms_max),
        },
    })
}

fn series(series: &Series) -> core::SeriesPolicy {
    let (latest, newest) = match series.drop {
        SeriesDrop::Oldest => (false, false),
        SeriesDrop::Newest => (false, true),
        SeriesDrop::LatestPerKey => (true, false),
    };
    let stream = match series.priority {
        _ if latest => StreamId::LATEST,
        Priority::Urgent => StreamId::URGENT,
        Priority::Normal => StreamId::NORMAL,
        Priority::Bulk => StreamId::BULK,
    };
    let when_full =
        if newest { core::SeriesFull::DropNewest } else { core::SeriesFull::DropOldest };
    core::SeriesPolicy { stream, ttl: series.ttl_ms.map(Millis), when_full }
}

fn trigger_spec(
    manifest: &Manifest,
    name: &str,
    trigger: &Trigger,
) -> Result<core::TriggerSpec, String> {
    let (source, durability, wanted) = match &trigger.source {
        Source::Mqtt(mqtt) => {
            let filters = mqtt.topics.iter().map(|text| filter(text)).collect::<Result<_, _>>()?;
            (core::TriggerSource::Mqtt { filters }, mqtt.durability, patterns(&mqtt.filter)?)
        }
        Source::Schedule(source) => {
            let schedule = source.expression.parse().map_err(|err| format!("schedule: {err}"))?;
            let missed = match source.missed {
                MissedSlots::Skip => core::MissedSlots::Skip,
                MissedSlots::Once => core::MissedSlots::Once,
            };
            (core::TriggerSource::Schedule { schedule, missed }, Durability::Prompt, None)
        }
    };
    Ok(core::TriggerSpec {
        id: TriggerId::new(&format!("{}/{name}", manifest.app)),
        function: function_id(&manifest.app, &trigger.function),
        source,
        retry: core::RetryPolicy {
            retries_max: trigger.retry.retries_max,
            backoff: trigger.retry.backoff_ms.iter().map(|ms| Millis(*ms)).collect(),
            age_max: Millis(trigger.retry.age_ms_max),
            jitter: match trigger.retry.jitter {
                Jitter::None => core::Jitter::None,
                Jitter::Full => core::Jitter::Full,
            },
            age_by_wall: trigger.retry.age_by_wall,
        },
        durability: match durability {
            Durability::Prompt => core::Durability::Prompt,
            Durability::Thrifty => core::Durability::Thrifty,
        },
        filter: wanted,
        batch: trigger.batch().map(|batch| core::BatchPolicy {
            size_max: batch.size_max,
            window_ms: batch.window_ms,
            bytes_max: batch.bytes_max,
            bisect: batch.bisect,
        }),
        on_success: destinations::of(&manifest.app, name, End::Success, trigger)?,
        on_failure: destinations::of(&manifest.app, name, End::Failure, trigger)?,
    })
}

fn patterns(patterns: &[serde_json::Value]) -> Result<Option<Arc<EventFilter>>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let filter = EventFilter::compile(patterns).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        format!("filter: {}", problems.join("; "))
    })?;
    Ok(Some(Arc::new(filter)))
}

/// What the runtime must know of a function.
///
/// # Errors
/// A grant that is no topic filter.
pub(super) fn profile(
    revision: &VerifiedRevision,
    name: &str,
    function: &Function,
) -> Result<FunctionProfile, String> {
    let grants = &function.grants;
    let publish = grants.publish.iter().map(|text| filter(text)).collect::<Result<_, _>>()?;
    let limits = &function.limits;
    Ok(FunctionProfile {
        function: function_id(&revision.manifest().app, name),
        revision: Digest(revision.digest().0),
        state_version: function.state_version,
        limits: Limits {
            memory_bytes: limits.memory_bytes,
            time_ms: limits.time_ms,
            stack_bytes: limits.stack_bytes,
            publishes: limits.publishes,
            publish_bytes: limits.publish_bytes,
            records: limits.records,
            record_bytes: limits.record_bytes,
            log_bytes: limits.log_bytes,
            state_write_bytes: limits.state_write_bytes,
            state_bytes: limits.state_bytes,
        },
        grants: Grants {
            publish,
            record: grants.record.clone(),
            state: scope(function.state),
            config: function.config.clone(),
        },
        needs: needs(&revision.manifest().triggers, name),
    })
}

fn needs(triggers: &BTreeMap<String, Trigger>, function: &str) -> Needs {
    let Woken { by_event, by_batch } = woken(triggers, function);
    Needs { handler: by_event, batch_handler: by_batch }
}

/// `app/function`.
#[must_use]
pub(super) fn function_id(app: &str, name: &str) -> FunctionId {
    FunctionId::new(&format!("{app}/{name}"))
}

fn scope(scope: StateScope) -> core::StateScope {
    match scope {
        StateScope::Device => core::StateScope::Device,
        StateScope::Function => core::StateScope::Function,
        StateScope::None => core::StateScope::None,
        StateScope::Lane => core::StateScope::Lane,
    }
}

fn filter(text: &str) -> Result<TopicFilter, String> {
    text.parse().map_err(|err| format!("{text:?}: {err}"))
}

#[cfg(test)]
mod tests {
    use edge_core::pattern::{Subject, Verdict};
    use edge_core::release::TriggerSource;
    use sync_protocol::manifest::{Batch, FORMAT, MqttSource, Retry, ScheduleSource};

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            app: "app".to_owned(),
            version: "1.0.0".to_owned(),
            sequence: 1,
            floor: 0,
            functions: Default::default(),
            triggers: Default::default(),
            firmware: Default::default(),
            agent: None,
            system: None,
            records: Default::default(),
        }
    }

    fn resolved(source: Source) -> Result<core::TriggerSpec, String> {
        let (on_success, on_failure) = (None, None);
        let (function, retry) = ("f".to_owned(), Retry::default());
        let trigger = Trigger { function, source, retry, on_success, on_failure };
        trigger_spec(&manifest(), "t", &trigger)
    }

    #[test]
    fn a_schedule_of_the_contract_is_one_for_the_core() {
        for text in ["rate(1 second)", "rate(366 days)", "cron(*/5 * ? * MON-FRI *)"] {
            let expression = text.to_owned();
            let source = ScheduleSource { expression, missed: MissedSlots::Once };
            let spec =
                resolved(Source::Schedule(source)).unwrap_or_else(|why| panic!("{text}: {why}"));
            let TriggerSource::Schedule { schedule, missed } = spec.source else {
                panic!("{text}")
            };
            assert_eq!((schedule.as_str(), missed), (text, core::MissedSlots::Once));
            assert_eq!(schedule.is_on_wall_time(), text.starts_with("cron"), "{text}");
        }
        let expression = "cron(0 0 31 2 ? *)".to_owned();
        let never = ScheduleSource { expression, missed: MissedSlots::Skip };
        let why = resolved(Source::Schedule(never)).expect_err("no such day");
        assert!(why.starts_with("schedule: this schedule never comes"), "{why}");
    }

    #[test]
    fn patterns_of_the_contract_are_a_filter_for_the_core() {
        let mqtt = |filter| {
            let (topics, durability) = (vec!["in/#".to_owned()], Durability::Prompt);
            let (allow_loop, batch) = (false, None);
            resolved(Source::Mqtt(MqttSource { topics, durability, allow_loop, filter, batch }))
        };
        assert_eq!(mqtt(Vec::new()).expect("every event is wanted").filter, None);
        let hot = serde_json::json!({ "body": { "celsius": [{ "numeric": [">", 80] }] } });
        let filter = mqtt(vec![hot]).expect("a filter").filter.expect("some are not wanted");
        let judge = |payload: &[u8]| {
            let (topic, device, content_type) = ("in/x", None, None);
            filter.judge(&Subject { topic, device, content_type, properties: &[], payload })
        };
        assert_eq!(judge(b"{\"celsius\": 81}"), Verdict::Wanted);
        assert_eq!(judge(b"{\"celsius\": 80}"), Verdict::Unwanted);
        let why = mqtt(vec![serde_json::json!({ "body": {} })]).expect_err("asks for nothing");
        assert!(why.starts_with("filter: pattern 1, body: "), "{why}");
    }

    #[test]
    fn batches_of_the_contract_are_those_of_the_core() {
        let batch = Some(Batch { size_max: 7, window_ms: 5, bytes_max: 2_048, bisect: false });
        let (topics, filter) = (vec!["in/#".to_owned()], Vec::new());
        let (durability, allow_loop) = (Durability::Prompt, false);
        let source = MqttSource { topics, durability, allow_loop, filter, batch };
        let spec = resolved(Source::Mqtt(source)).expect("a trigger");
        let policy =
            core::BatchPolicy { size_max: 7, window_ms: 5, bytes_max: 2_048, bisect: false };
        assert_eq!(spec.batch, Some(policy));
    }

    #[test]
    fn a_thrifty_trigger_is_thrifty_in_the_core() {
        let mqtt = |durability| {
            let topics = vec!["in/#".to_owned()];
            let (allow_loop, filter, batch) = (false, Vec::new(), None);
            resolved(Source::Mqtt(MqttSource { topics, durability, allow_loop, filter, batch }))
        };
        let durability = |spec: Result<core::TriggerSpec, String>| spec.map(|spec| spec.durability);
        assert_eq!(durability(mqtt(Durability::Thrifty)), Ok(core::Durability::Thrifty));
        assert_eq!(durability(mqtt(Durability::Prompt)), Ok(core::Durability::Prompt));
    }
}
