//! Destinations of a trigger, resolved for the core.
//!
//! A function as a destination is woken by an internal trigger, named after the trigger and the end
//! that it tells: `hot:on-failure`. No trigger of a manifest has a colon in its name.

use edge_core::destination::Destinations;
use edge_core::id::TriggerId;
use edge_core::release as core;
use edge_core::topic::Topic;
use sync_protocol::manifest::{Destination, Trigger};

use super::function_id;

/// Which end of an event is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Success,
    Failure,
}

impl End {
    fn of(self, trigger: &Trigger) -> Option<&Destination> {
        match self {
            Self::Success => trigger.on_success.as_ref(),
            Self::Failure => trigger.on_failure.as_ref(),
        }
    }

    /// `TRIGGER:on-success`
    fn name(self, trigger: &str) -> String {
        match self {
            Self::Success => format!("{trigger}:on-success"),
            Self::Failure => format!("{trigger}:on-failure"),
        }
    }
}

/// Where a trigger tells an end.
///
/// # Errors
/// A topic that this gateway does not understand.
pub(super) fn of(
    app: &str,
    name: &str,
    end: End,
    trigger: &Trigger,
) -> Result<Option<Destinations>, String> {
    let Some(told) = end.of(trigger) else { return Ok(None) };
    let name = end.name(name);
    let topic = told
        .topic
        .as_ref()
        .map(|topic| Topic::new(topic).map_err(|error| format!("{name}: {topic:?}: {error}")));
    Ok(Some(Destinations {
        topic: topic.transpose()?,
        trigger: told.function.as_ref().map(|_| TriggerId::new(&format!("{app}/{name}"))),
        series: told.cloud.then_some(name),
    }))
}

/// The internal triggers of the functions that a trigger's ends are told to.
pub(super) fn triggers<'t>(
    app: &'t str,
    name: &'t str,
    trigger: &'t Trigger,
) -> impl Iterator<Item = core::TriggerSpec> + 't {
    let ends = [End::Success, End::Failure].into_iter();
    ends.filter_map(move |end| {
        let function = end.of(trigger)?.function.as_ref()?;
        Some(core::TriggerSpec {
            id: TriggerId::new(&format!("{app}/{}", end.name(name))),
            function: function_id(app, function),
            source: core::TriggerSource::Destination,
            retry: core::RetryPolicy::default(),
            durability: core::Durability::Prompt,
            filter: None,
            batch: None,
            on_success: None,
            on_failure: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use sync_protocol::manifest::{MissedSlots, Retry, ScheduleSource, Source};

    use super::*;

    #[test]
    fn a_destination_names_the_internal_trigger_that_is_made_for_it() {
        let schedule =
            ScheduleSource { expression: "rate(1 day)".to_owned(), missed: MissedSlots::Skip };
        let told = |function: Option<&str>| Destination {
            topic: Some("ends".to_owned()),
            function: function.map(str::to_owned),
            cloud: function.is_none(),
        };
        let trigger = Trigger {
            function: "f".to_owned(),
            source: Source::Schedule(schedule),
            retry: Retry::default(),
            on_success: Some(told(None)),
            on_failure: Some(told(Some("g"))),
        };
        let success = of("a", "t", End::Success, &trigger).expect("a topic").expect("told");
        assert_eq!((success.trigger, success.series.as_deref()), (None, Some("t:on-success")));
        let failure = of("a", "t", End::Failure, &trigger).expect("a topic").expect("told");
        assert_eq!(failure.topic.as_ref().map(Topic::as_str), Some("ends"));
        assert_eq!(failure.series, None);
        let [internal] = &triggers("a", "t", &trigger).collect::<Vec<_>>()[..] else {
            panic!("one function, one trigger")
        };
        assert_eq!(failure.trigger.as_ref(), Some(&internal.id));
        assert_eq!(internal.function.as_str(), "a/g");
        assert_eq!(internal.source, core::TriggerSource::Destination);
    }
}
