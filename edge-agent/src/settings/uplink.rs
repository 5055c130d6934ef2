//! `[uplink]`: how the control plane is dialled.

use crate::toml_reader::{Problems, Section};
use crate::uplink::proxy::{Choice, Proxy};

/// In the place of a proxy: none, whatever the environment says.
const NONE: &str = "none";

pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Choice {
    let Some(mut section) = root.section("uplink", problems) else { return Choice::default() };
    let proxy = section.string("proxy", problems);
    section.finish(problems);
    match proxy {
        None => Choice::default(),
        Some(at) if at.value == NONE => Choice::Direct,
        Some(at) => match at.value.parse::<Proxy>() {
            Ok(proxy) => Choice::Proxy(proxy),
            Err(why) => {
                problems.add(&at.span, format!("`proxy` {why}, or \"none\""));
                Choice::default()
            }
        },
    }
}
