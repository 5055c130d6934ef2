//! Asking the agent that runs.

use std::path::Path;

use edge_agent::control::{self, Request};
use serde_json::Value;

use super::read_settings;

pub(crate) fn ask(config: &Path, request: &Request) -> Result<Value, String> {
    control::request(&read_settings(config)?.control_socket, request)
}

/// All rows of an answer that comes in pages.
pub(crate) fn rows(
    config: &Path,
    page: impl Fn(Option<&Value>) -> Request,
) -> Result<Vec<Value>, String> {
    let (mut all, mut next) = (Vec::new(), Value::Null);
    loop {
        let after = (!next.is_null()).then_some(&next);
        let mut answer = ask(config, &page(after))?;
        if let Value::Array(rows) = answer["rows"].take() {
            all.extend(rows);
        }
        let behind = answer["next"].take();
        if behind.is_null() || behind == next {
            return Ok(all);
        }
        next = behind;
    }
}
