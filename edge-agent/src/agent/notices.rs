//! What the control plane is told of functions and of the gateway itself, durably: alarms, and
//! their ends.

use bytes::Bytes;
use edge_core::event::CoreEvent;
use edge_core::id::StreamId;
use edge_core::input::Input;
use sync_protocol::record::Report;

use super::gateway::Gateway;

impl Gateway {
    /// Tells the control plane, where the event is one that it must know.
    pub(super) fn notice(&mut self, event: &CoreEvent) {
        if let Some((code, text)) = words(event) {
            self.tell_cloud(code, text);
        }
    }

    /// A report on the urgent stream, in the open batch.
    pub(super) fn tell_cloud(&mut self, code: &str, text: String) {
        let report = Report::Notice { code: code.to_owned(), text };
        let body = Bytes::from(report.to_bytes());
        self.with_core(Input::Report { stream: StreamId::URGENT, body });
    }
}

/// Code and text. A pause is told when it begins and when it ends, not at every failed try.
fn words(event: &CoreEvent) -> Option<(&'static str, String)> {
    Some(match event {
        CoreEvent::FunctionPaused { function, faults, again: false, .. } => {
            ("function-paused", format!("{function} is paused: {faults} events in a row faulted"))
        }
        CoreEvent::FunctionResumed { function } => {
            ("function-resumed", format!("{function} is no longer paused"))
        }
        CoreEvent::SafeModeLeft => {
            ("safe-mode-left", "functions run again after a crash loop".to_owned())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use edge_core::id::FunctionId;
    use edge_core::time::Millis;

    use super::*;

    #[test]
    fn a_pause_is_told_at_both_ends_and_once() {
        let function = FunctionId::new("a/f");
        let paused = |again| CoreEvent::FunctionPaused {
            function: function.clone(),
            faults: 10,
            until: Millis(1),
            again,
        };
        let code = |event: &CoreEvent| words(event).map(|(code, _)| code);
        assert_eq!(code(&paused(false)), Some("function-paused"));
        assert_eq!(code(&paused(true)), None);
        let resumed = CoreEvent::FunctionResumed { function: function.clone() };
        assert_eq!(code(&resumed), Some("function-resumed"));
        assert_eq!(code(&CoreEvent::FunctionProbing { function }), None);
    }
}
