//! `holm filter test`: whether events match a trigger's filter, by the gateway's own code.

use std::path::Path;

use edge_core::id::DeviceId;
use edge_core::op::Event;
use edge_core::pattern::{EventFilter, Miss, Subject, Verdict, misses};
use serde_json::{Value, json};
use sync_protocol::manifest::{Source, Trigger};

use crate::app::{App, Project};
use crate::args::{Filter, FilterCommand, FilterTest};
use crate::events;
use crate::failure::{Done, Exit, Failure};
use crate::out::{Out, clean};

const PATTERN_FILE_BYTES_MAX: u64 = 1 << 20;

/// `holm filter`
///
/// # Errors
/// The patterns or the events have mistakes, or an event does not match.
pub fn run(args: &Filter, out: &Out) -> Done {
    match &args.command {
        FilterCommand::Test(args) => test(args, out),
    }
}

fn test(args: &FilterTest, out: &Out) -> Done {
    let (patterns, dir) = match &args.pattern {
        Some(path) => (of_file(path)?, args.app.clone()),
        None => {
            let project = Project::open(&args.app)?;
            (of_app(&project.app, args.trigger.as_deref())?, project.dir)
        }
    };
    let filter = EventFilter::compile(&patterns).map_err(|problems| {
        let problems = problems.iter().map(ToString::to_string).collect();
        Failure { exit: Exit::Input, problems, next: Some("`holm help holm.toml`".to_owned()) }
    })?;
    let files = events::read(&args.events, &dir)?;
    let (mut missed, total) = (0, files.len());
    for (n, file) in files.into_iter().enumerate() {
        let wrong = |error| Failure::input(format!("event {}: {error}", n + 1));
        let event = file.into_event().map_err(wrong)?;
        let subject = subject(&event);
        let verdict = filter.judge(&subject);
        missed += usize::from(verdict != Verdict::Wanted);
        let by_pattern: Vec<Vec<Miss>> =
            patterns.iter().map(|pattern| misses(pattern, &subject)).collect();
        let value = answer(n + 1, &event.topic, verdict, &by_pattern);
        out.item(&value, |_| text(n + 1, &event.topic, verdict, &by_pattern))?;
    }
    if missed == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!("{missed} of {total} events do not match")))
}

fn subject(event: &Event) -> Subject<'_> {
    Subject {
        topic: &event.topic,
        device: event.device.as_ref().map(DeviceId::as_str),
        content_type: event.properties.content_type.as_deref(),
        properties: &event.properties.user,
        payload: &event.payload,
    }
}

/// One pattern, or an array of them.
fn of_file(path: &Path) -> Done<Vec<Value>> {
    let text = crate::input::text(path, PATTERN_FILE_BYTES_MAX)?;
    match serde_json::from_str(&text) {
        Ok(Value::Array(patterns)) => Ok(patterns),
        Ok(pattern) => Ok(vec![pattern]),
        Err(error) => Err(Failure::input(format!("{} is not JSON: {error}", path.display()))
            .next("a pattern looks like {\"body\": {\"door\": [\"open\"]}}")),
    }
}

/// The patterns of the named trigger, or of the only one that filters.
fn of_app(app: &App, name: Option<&str>) -> Done<Vec<Value>> {
    fn patterns(trigger: &Trigger) -> Option<&[Value]> {
        match &trigger.source {
            Source::Mqtt(source) if !source.filter.is_empty() => Some(&source.filter),
            Source::Mqtt(_) | Source::Schedule(_) => None,
        }
    }
    let filtering: Vec<_> =
        app.triggers.iter().filter_map(|(name, one)| Some((name, patterns(one)?))).collect();
    let names: Vec<&str> = filtering.iter().map(|(name, _)| name.as_str()).collect();
    let next = if names.is_empty() {
        "give one with --pattern FILE, or add `filter` to a trigger".to_owned()
    } else {
        format!("--trigger NAME; with a filter: {}", names.join(", "))
    };
    match (name, &filtering[..]) {
        (None, [(_, patterns)]) => Ok(patterns.to_vec()),
        (None, []) => Err(Failure::new(Exit::NotFound, "no trigger has a filter").next(next)),
        (None, _) => Err(Failure::usage("several triggers have a filter").next(next)),
        (Some(name), all) => match all.iter().find(|(known, _)| *known == name) {
            Some((_, patterns)) => Ok(patterns.to_vec()),
            None => {
                let problem = format!("no trigger `{name}` has a filter");
                Err(Failure::new(Exit::NotFound, problem).next(next))
            }
        },
    }
}

fn answer(n: usize, topic: &str, verdict: Verdict, by_pattern: &[Vec<Miss>]) -> Value {
    let miss =
        |miss: &Miss| json!({ "path": miss.path, "wanted": miss.wanted, "found": miss.found });
    let patterns = by_pattern.iter().map(|misses| {
        json!({
            "matches": misses.is_empty(),
            "misses": misses.iter().map(miss).collect::<Vec<_>>(),
        })
    });
    json!({
        "event": n,
        "topic": topic,
        "matches": verdict == Verdict::Wanted,
        "not_json": verdict == Verdict::NotJson,
        "patterns": patterns.collect::<Vec<_>>(),
    })
}

fn text(n: usize, topic: &str, verdict: Verdict, by_pattern: &[Vec<Miss>]) -> String {
    let what = match verdict {
        Verdict::Wanted => "matches",
        Verdict::Unwanted => "does not match",
        Verdict::NotJson => "does not match: its payload is not JSON (or too much to look at)",
    };
    let mut text = format!("event {n} ({}) {what}", clean(topic));
    for (n, misses) in by_pattern.iter().enumerate() {
        if misses.is_empty() {
            text.push_str(&format!("\n  pattern {} matches", n + 1));
        }
        for Miss { path, wanted, found } in misses {
            let why = match found {
                _ if path.is_empty() => "matches in each field, but no element in all".to_owned(),
                Some(found) => format!("{path} is {}, wanted {wanted}", short(found)),
                None => format!("{path} is not there, wanted {wanted}"),
            };
            text.push_str(&format!("\n  pattern {}: {}", n + 1, clean(&why)));
        }
    }
    text
}

/// A value as far as it fits on a line.
fn short(value: &Value) -> String {
    const CHARS: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= CHARS {
        return text;
    }
    text.chars().take(CHARS).chain("...".chars()).collect()
}
