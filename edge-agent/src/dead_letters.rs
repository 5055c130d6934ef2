//! `edge-agent dead-letters`: events that were given up, on a gateway with or without a control
//! plane. Answers are JSON.

use std::path::Path;

use clap::{Args, Subcommand};
use edge_agent::control::Request;
use edge_agent::letters::{Choice, parse_age};
use serde_json::{Value, json};
use sync_protocol::id::EventId;
use sync_protocol::wire::{LetterAt, Request as Ask};

use super::{Config, ask, print_json, rows};

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without a command the newest are listed. What is redriven gets a new set of attempts; it is out of the
list and in the queue in one durable step, or in neither.

Examples:
  edge-agent dead-letters                                  the newest 100
  edge-agent dead-letters list --function shop/order --older-than 6h
  edge-agent dead-letters show EVENT                       with its payload
  edge-agent dead-letters redrive EVENT
  edge-agent dead-letters redrive --function shop/order --yes
  edge-agent dead-letters purge --all --yes"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Command {
    /// List them, newest first.
    List(List),
    /// One of them with its payload.
    Show {
        /// Event, as `list` shows it.
        event: String,
        #[command(flatten)]
        config: Config,
    },
    /// Let the gateway work on them again.
    Redrive(Chosen),
    /// Delete them.
    Purge(Chosen),
}

#[derive(Args)]
struct Filter {
    /// Only those of this function: APP/FUNCTION.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only those given up longer ago, such as 30min, 6h or 2d.
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    older_than: Option<u64>,
}

#[derive(Args)]
struct List {
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
struct Chosen {
    /// Event, as `list` shows it.
    #[arg(conflicts_with = "all", required_unless_present_any = ["all", "function", "older_than"])]
    event: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Do it to more than one: without this it is only said how many there are.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: Config,
}

pub(super) fn run(arguments: Arguments) -> Result<(), String> {
    match arguments.command.unwrap_or(Command::List(arguments.list)) {
        Command::List(List { limit, filter, config }) => {
            let mut letters = chosen(&config.config, None, filter)?;
            letters.truncate(limit as usize);
            print_json(&Value::Array(letters));
            Ok(())
        }
        Command::Show { event, config } => show(&event, &config.config),
        Command::Redrive(chosen) => {
            each(chosen, "redrive", "redriven", |function, event| Ask::Redrive { function, event })
        }
        Command::Purge(chosen) => {
            each(chosen, "purge", "purged", |function, event| Ask::Discard { function, event })
        }
    }
}

/// Those that are meant, newest first.
fn chosen(config: &Path, event: Option<String>, filter: Filter) -> Result<Vec<Value>, String> {
    let Filter { function, older_than } = filter;
    let choice = Choice { event, function, older_than_ms: older_than };
    let page = |next: Option<&Value>| Ask::DeadLetters {
        after: next.and_then(|next| place(next).ok()),
        limit: u32::MAX,
    };
    let page = |next: Option<&Value>| Request::Ask(page(next));
    let mut letters = choice.of(rows(config, page)?);
    letters.sort_by_key(|letter| letter["age_ms"].as_u64());
    Ok(letters)
}

fn place(letter: &Value) -> Result<LetterAt, String> {
    let strange = || format!("a dead letter that makes no sense: {letter}");
    let function = letter["function"].as_str().ok_or_else(strange)?.to_owned();
    let event: Option<EventId> = letter["event"].as_str().and_then(|event| event.parse().ok());
    Ok(LetterAt { function, event: event.ok_or_else(strange)? })
}

fn show(event: &str, config: &Path) -> Result<(), String> {
    let any = Filter { function: None, older_than: None };
    let mut letters = chosen(config, Some(event.to_owned()), any)?;
    let mut letter = letters.pop().ok_or_else(|| format!("there is no dead letter {event}"))?;
    if letter["payload"].is_null() {
        let mut hex = String::new();
        let bytes = letter["payload_bytes"].as_u64().unwrap_or_default();
        while (hex.len() as u64) < bytes * 2 {
            let (letter, offset) = (place(&letter)?, hex.len() as u64 / 2);
            let piece = ask(config, &Request::Ask(Ask::LetterPayload { letter, offset }))?;
            let piece = piece["hex"].as_str().unwrap_or_default();
            if piece.is_empty() {
                return Err(format!("{event} changed while it was read: ask again"));
            }
            hex.push_str(piece);
        }
        letter["payload"] = json!({ "hex": hex });
    }
    print_json(&letter);
    Ok(())
}

/// Does something to each of those that are meant, one after the other.
fn each(
    Chosen { event, filter, all: _, yes, config }: Chosen,
    verb: &str,
    done: &str,
    request: impl Fn(String, EventId) -> Ask,
) -> Result<(), String> {
    let config = &config.config;
    let is_one = event.is_some();
    let letters = chosen(config, event, filter)?;
    if is_one && letters.is_empty() {
        return Err("there is no such dead letter: see `edge-agent dead-letters`".to_owned());
    }
    if !is_one && !yes {
        let count = letters.len();
        return Err(format!("this would {verb} {count} dead letter(s): add --yes"));
    }
    let (mut count, mut refused) = (0_u64, Vec::new());
    for letter in &letters {
        let LetterAt { function, event } = place(letter)?;
        match ask(config, &Request::Ask(request(function, event))) {
            Ok(_) => count += 1,
            Err(why) => refused.push(why),
        }
    }
    print_json(&json!({ done: count, "refused": refused }));
    match refused.first() {
        None => Ok(()),
        Some(why) => Err(format!("{} of {} stay: {why}", refused.len(), letters.len())),
    }
}
