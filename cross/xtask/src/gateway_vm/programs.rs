//! Programs that the agent of the gateway is updated to: the agent again, and three that must not stay.
//!
//! A bad one is a script of the guest's shell around the agent of the image's root, which runs for real: it
//! answers, takes messages, and then does what an agent must not. Asked what it is it says what the agent says.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Target triple of the agent.
const TARGET: &str = "aarch64-unknown-linux-musl";

/// The agent, and until when it is well: it answers.
const WELL: &str = "\
#!/bin/sh
agent=/usr/bin/edge-agent
[ \"$1\" = about ] && exec $agent about
answers() { $agent status --config /etc/holm/agent.toml >/dev/null 2>&1; }
";

/// An update that does not stay.
#[derive(Debug)]
pub(crate) struct Bad {
    /// What it does.
    pub(crate) what: &'static str,
    /// Version of the app that brings it.
    pub(crate) version: &'static str,
    /// Its bytes.
    pub(crate) program: String,
    /// The gateway's reason has this in it.
    pub(crate) reason: &'static str,
}

/// It dies of a signal as soon as it answers, at every try.
pub(crate) fn crash() -> Bad {
    Bad {
        what: "crashes",
        version: "1.0.1",
        program: format!(
            "{WELL}(until answers; do sleep 1; done; kill -ABRT $$) &\nexec $agent \"$@\"\n"
        ),
        reason: "it was started 3 times; the last time it was ended by signal 6",
    }
}

/// It stands still as soon as it answers, at every try.
pub(crate) fn hang() -> Bad {
    Bad {
        what: "hangs",
        version: "1.0.2",
        program: format!(
            "{WELL}(until answers; do sleep 1; done; kill -STOP $$) &\nexec $agent \"$@\"\n"
        ),
        reason: "it was started 3 times; the last time it hung",
    }
}

/// It works, and believes the control plane at a port at which nobody answers. What the gateway itself
/// believes is left alone: only this process, in a mount namespace of its own, sees another identity.
pub(crate) fn deaf(endpoint: &str) -> Result<Bad> {
    let (host, port) = endpoint.split_once(':').context("an endpoint has a port")?;
    // As many bytes: their number stands before them.
    let nowhere = format!("{host}:{:0width$}", 1, width = port.len());
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (from, to) = (hex(endpoint), hex(&nowhere));
    let program = format!(
        "{WELL}umask 077\n\
         own=/var/lib/holm/identity\n\
         other=/tmp/identity\n\
         xxd -p $own | tr -d '\\n' | sed s/{from}/{to}/ | xxd -r -p >$other\n\
         cmp -s $own $other && exit 3\n\
         exec unshare -r -m sh -c 'mount --bind $0 $1 && shift && exec \"$@\"' $other $own $agent \"$@\"\n"
    );
    Ok(Bad {
        what: "reaches no control plane",
        version: "1.0.3",
        program,
        reason: "it did not reach the control plane, which the agent before it did",
    })
}

/// Writes an app that brings this program as the agent.
pub(crate) fn app(dir: &Path, version: &str, agent_version: &str, bytes: &[u8]) -> Result<()> {
    ensure!(!agent_version.contains('"'), "{agent_version:?} is no version");
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("program"), bytes)?;
    let text = format!(
        "[app]\nname = \"agent\"\nversion = \"{version}\"\n\n[agent]\nversion = \"{agent_version}\"\n\
         programs = {{ \"{TARGET}\" = \"program\" }}\n"
    );
    Ok(std::fs::write(dir.join("holm.toml"), text)?)
}

#[cfg(test)]
mod tests {
    use super::{app, crash, deaf, hang};

    #[test]
    fn the_address_that_is_put_in_has_as_many_bytes() {
        let bad = deaf("10.0.2.2:38701").expect("host and port");
        let words = bad.program.split_once("sed s/").expect("it has a sed").1;
        let mut parts = words.split('/');
        let (from, to) = (parts.next().expect("from"), parts.next().expect("to"));
        assert_eq!(from, "31302e302e322e323a3338373031");
        assert_eq!(to, "31302e302e322e323a3030303031");
        assert!(deaf("nowhere").is_err());
    }

    #[test]
    fn scripts_say_what_they_are_before_they_misbehave() {
        let deaf = deaf("10.0.2.2:38701").expect("host and port");
        for bad in [crash(), hang(), deaf] {
            let about = bad.program.find("about").expect("it answers");
            let runs = bad.program.find("\"$@\"").expect("it runs the agent");
            assert!(bad.program.starts_with("#!/bin/sh\n") && about < runs, "{}", bad.program);
        }
    }

    #[test]
    fn an_app_names_program_and_version() {
        let dir = tempfile::tempdir().expect("a folder");
        app(dir.path(), "1.0.0", "0.1.0", b"program").expect("written");
        let text = std::fs::read_to_string(dir.path().join("holm.toml")).expect("a file");
        let manifest: toml::Value = toml::from_str(&text).expect("TOML");
        assert_eq!(manifest["agent"]["version"].as_str(), Some("0.1.0"));
        assert_eq!(manifest["agent"]["programs"][super::TARGET].as_str(), Some("program"));
        assert!(app(dir.path(), "1.0.0", "\"", b"").is_err());
    }
}
