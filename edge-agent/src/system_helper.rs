//! `edge-agent system`: the helper of a card image, which root runs (`docs/agent-updates.md`, *Images*).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use edge_agent::system::helper::{self, Places, Then};
use edge_core::boot::system::When;
use edge_core::boot::{Slot, Version};

/// The machine is to be restarted.
const RESTART_EXIT: u8 = 10;
/// The boot partition is to be mounted, and the helper started again.
const MOUNT_EXIT: u8 = 11;

/// What the image wants done.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Compare what is known of the slots with the boot record, and show it to the agent.
    Settle {
        /// This is the one time of this start.
        #[arg(long)]
        at_start: bool,
        /// The gateway was enrolled: note anew whose signature counts.
        #[arg(long)]
        enrolled: bool,
        /// The system that runs has proved itself: start it from now on.
        #[arg(long, conflicts_with = "at_start")]
        keep: bool,
        #[command(flatten)]
        places: Arguments,
    },
    /// Do what the agent asks, if it asks anything.
    Serve(Arguments),
}

/// Where everything is.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder that is shared with the agent.
    #[arg(long, value_name = "FOLDER")]
    shared: PathBuf,
    /// The state of the slots, which only root may write.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// The card.
    #[arg(long, value_name = "DEVICE")]
    disk: PathBuf,
    /// Partition of the root of slot a.
    #[arg(long, value_name = "DEVICE")]
    root_a: PathBuf,
    /// Partition of the root of slot b.
    #[arg(long, value_name = "DEVICE")]
    root_b: PathBuf,
    /// Where the boot partition is mounted.
    #[arg(long, value_name = "FOLDER")]
    boot: Option<PathBuf>,
    /// The slot that runs.
    #[arg(long, value_parser = slot)]
    slot: Slot,
    /// The board.
    #[arg(long)]
    board: String,
    /// Version of the system that runs.
    #[arg(long, value_parser = version)]
    system_version: Version,
    /// The agent's data.
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Configuration file: its author keys count.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn slot(text: &str) -> Result<Slot, String> {
    Slot::named(text).ok_or_else(|| "a slot is `a` or `b`".to_owned())
}

fn version(text: &str) -> Result<Version, String> {
    text.trim().parse().map_err(|error| format!("{error}"))
}

impl Arguments {
    fn places(self) -> Places {
        let Self { shared, state, disk, root_a, root_b, boot, slot, board, .. } = self;
        Places {
            shared,
            state,
            disk,
            roots: [root_a, root_b],
            boot,
            slot,
            board,
            version: self.system_version,
            data_dir: self.data_dir,
            author_keys: author_keys(&self.config),
        }
    }
}

/// A gateway whose configuration cannot be read goes by what was pinned.
fn author_keys(config: &Path) -> Vec<String> {
    match super::read_settings(config) {
        Ok(settings) => settings.author_keys,
        Err(error) => {
            tracing::warn!(error, "no author keys of the configuration count");
            Vec::new()
        }
    }
}

/// Does it; the exit code says what the image has to do.
pub(crate) fn run(command: Command) -> Result<ExitCode, String> {
    super::show::start_logging(None)?;
    let then = match command {
        Command::Settle { at_start, enrolled, keep, places } => {
            let places = places.places();
            let _alone = helper::lock(&places).map_err(|error| error.to_string())?;
            if enrolled {
                helper::pin_authors(&places, true).map_err(|error| error.to_string())?;
            }
            match (keep, at_start) {
                (true, _) => helper::keep(&places)?,
                (false, true) => helper::settle(&places, When::AtStart)?,
                (false, false) => helper::settle(&places, When::Later)?,
            }
        }
        Command::Serve(places) => {
            let places = places.places();
            let _alone = helper::lock(&places).map_err(|error| error.to_string())?;
            helper::serve(&places)?.unwrap_or(Then::Nothing)
        }
    };
    Ok(match then {
        Then::Nothing => ExitCode::SUCCESS,
        Then::Restart => ExitCode::from(RESTART_EXIT),
        Then::Mount => ExitCode::from(MOUNT_EXIT),
    })
}
