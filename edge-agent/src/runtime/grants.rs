//! What a function's manifest grants it.

use std::collections::BTreeMap;

use edge_core::id::FunctionId;
use edge_core::outcome::{Fault, FaultKind};
use edge_core::release::StateScope;
use edge_core::topic::{Topic, TopicFilter};

use super::limits::short_name;

/// Stands for every record name.
const ANY_RECORD: &str = "*";

/// Capabilities of a function; what is not here is refused and ends the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Topics it may publish to. Setting `publish`.
    pub publish: Vec<TopicFilter>,
    /// Series it may record; `*` stands for all. Setting `record`.
    pub record: Vec<String>,
    /// Whose state it may use. Setting `state`.
    pub state: StateScope,
    /// What `config` answers. Setting `config`.
    pub config: BTreeMap<String, String>,
}

impl Grants {
    pub(super) fn check_publish(&self, topic: &Topic, function: &FunctionId) -> Result<(), Fault> {
        if self.publish.iter().any(|filter| filter.matches(topic)) {
            return Ok(());
        }
        Err(denied(
            function,
            &format!("publishing to `{}`", topic.as_str()),
            "publish",
            topic.as_str(),
        ))
    }

    pub(super) fn check_record(&self, name: &str, function: &FunctionId) -> Result<(), Fault> {
        if self.record.iter().any(|granted| granted == ANY_RECORD || granted == name) {
            return Ok(());
        }
        Err(denied(function, &format!("recording `{name}`"), "record", name))
    }

    pub(super) fn check_state(&self, function: &FunctionId) -> Result<(), Fault> {
        if self.state != StateScope::None {
            return Ok(());
        }
        let name = short_name(function);
        Err(Fault {
            kind: FaultKind::Denied,
            message: format!(
                "state is not granted: set `state` to \"device\", \"function\" or \"lane\" in \
                 [functions.{name}] of holm.toml"
            ),
        })
    }
}

fn denied(function: &FunctionId, what: &str, setting: &str, grant: &str) -> Fault {
    let name = short_name(function);
    Fault {
        kind: FaultKind::Denied,
        message: format!(
            "{what} is not granted: add \"{grant}\" to `{setting}` in [functions.{name}] of \
             holm.toml"
        ),
    }
}
