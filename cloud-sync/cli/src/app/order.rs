//! Reads whose state it is and by what events are ordered: the one follows from the other.

use edge_agent::toml_reader::{At, Problems, Section};
use sync_protocol::filter::{check_filter, may_have_level};
use sync_protocol::manifest::{Ordered, StateScope};

use super::Function;
use super::values::choose;

const STATES: [(&str, StateScope); 4] = [
    ("device", StateScope::Device),
    ("function", StateScope::Function),
    ("lane", StateScope::Lane),
    ("none", StateScope::None),
];

/// `state` and `ordered`, as a manifest has them.
pub(super) fn read_order(
    section: &mut Section<'_, '_>,
    problems: &mut Problems<'_>,
) -> (StateScope, Option<String>) {
    let state = section.string("state", problems);
    let state = state
        .and_then(|at| Some(At { value: choose("state", &at, &STATES, problems)?, span: at.span }));
    let Some(text) = section.string("ordered", problems) else {
        return match state {
            Some(At { value: StateScope::Lane, span }) => {
                problems.add(&span, "`state = \"lane\"` needs `ordered`");
                (StateScope::default(), None)
            }
            other => (other.map(|at| at.value).unwrap_or_default(), None),
        };
    };
    let ordered: Ordered = match text.value.parse() {
        Ok(ordered) => ordered,
        Err(error) => {
            problems.add(&text.span, format!("`ordered` \"{}\" {error}", text.value));
            return (StateScope::default(), None);
        }
    };
    // What `state` alone can say has one form in a manifest.
    let alone = match ordered {
        Ordered::Device => Some(StateScope::Device),
        Ordered::Function => Some(StateScope::Function),
        _ => None,
    };
    match state.map(|at| at.value) {
        Some(StateScope::None) => (StateScope::None, Some(text.value)),
        None | Some(StateScope::Lane) => match alone {
            Some(state) => (state, None),
            None => (StateScope::Lane, Some(text.value)),
        },
        Some(state) => {
            if alone != Some(state) {
                let why = "state is kept per lane, so it follows `ordered`: leave `state` out, or \
                           write `state = \"none\"` for a function without state";
                problems.add(&text.span, why);
            }
            (state, None)
        }
    }
}

/// Messages that can never have the level by which the function is ordered are a mistake.
pub(super) fn no_level(
    name: &At<String>,
    function: &At<Function>,
    topics: &[String],
    problems: &mut Problems<'_>,
) {
    let Some(Ordered::TopicLevel(level)) = function.value.lanes() else { return };
    let short = |topic: &&String| check_filter(topic).is_ok() && !may_have_level(topic, level);
    if let Some(topic) = topics.iter().find(short) {
        let name = &name.value;
        problems.add(
            &function.span,
            format!(
                "`{name}` is ordered by `topic[{level}]` and woken by `{topic}`, which has no such \
                 level (the first one is 0)"
            ),
        );
    }
}
