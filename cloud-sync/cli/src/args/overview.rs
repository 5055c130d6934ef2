//! The first page of help: all commands, in groups.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::Cli;

/// Commands by what they are for.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Write functions", &["new", "build", "invoke", "filter", "dev", "simulate", "keys"]),
    ("Set up a fleet", &["cloud", "gateway", "device", "login", "context"]),
    ("Run apps on it", &["deploy", "rollback", "undeploy"]),
    ("See what happens", &["status", "logs", "pub", "sub", "state", "dead-letters"]),
];

/// Commands about the command.
const OTHER: (&str, &[&str]) = ("Other", &["completions", "help"]);

const AFTER: &str = "\
First steps:
  holm new hello && cd hello      # an app with one function
  holm invoke hello               # builds it, and runs it on event.json
  holm dev                        # control plane, gateway and a device in one process

A fleet:
  holm cloud init ~/holm-cloud    # then run `cloud-sync serve --dir ~/holm-cloud`
  holm gateway add gw-1           # then run `edge-agent enroll TOKEN` on the gateway
  holm deploy --to gw-1 --wait

Exit codes:
  0 done              3 bad input file     6 not allowed
  1 refused, failed   4 not reachable      7 the function did not return ok
  2 wrong usage       5 not found          8 not done within the given time

`holm help COMMAND` explains a command, `holm help holm.toml` the file that describes an app.";

/// The command line as clap knows it, with the commands of the first page in groups.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command();
    let mut overview = String::new();
    for (title, names) in GROUPS.iter().chain([&OTHER]) {
        let _ = writeln!(overview, "{title}:");
        for name in *names {
            let about = match command.find_subcommand(name) {
                Some(known) => known.get_about().map(ToString::to_string).unwrap_or_default(),
                None => "Explain a command".to_owned(),
            };
            let _ = writeln!(overview, "  {name:14}{about}");
        }
        overview.push('\n');
    }
    let reference = crate::app::reference::terminal();
    command
        .help_template(format!(
            "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{overview}Options:\n{{options}}{{after-help}}"
        ))
        .after_help(AFTER)
        .mut_subcommand("holm.toml", |page| page.override_help(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_has_every_command_once() {
        let command = command();
        let visible = command.get_subcommands().filter(|known| !known.is_hide_set());
        let mut known: Vec<&str> = visible.map(clap::Command::get_name).collect();
        known.push("help");
        let mut shown: Vec<&str> =
            GROUPS.iter().chain([&OTHER]).flat_map(|(_, names)| names.iter().copied()).collect();
        known.sort_unstable();
        shown.sort_unstable();
        assert_eq!(known, shown);
        command.debug_assert();
    }
}
