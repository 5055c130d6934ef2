//! What a target's agent has to do: take a function, a message, give a result, die, and go on where
//! it was.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish, Subscribe, SubscribeOptions};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use serde::Serialize;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::{Client, Login};

/// Longest wait for one message through an emulated gateway.
const MESSAGE_MAX: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seen {
    /// `uname -m` of the machine that the agent found itself on.
    pub(crate) machine: String,
    /// From the start of the process to a port that answers, with an empty store.
    pub(crate) ready_ms: u128,
    /// Of a deployment: verify, compile, try.
    pub(crate) deploy_ms: u128,
    /// From a publish to the result of the function at a subscriber; the median.
    pub(crate) result_ms: u128,
}

/// An app that counts, its author, and where the gateway keeps its things.
pub(crate) struct Plan<'a> {
    /// What is started: the agent, or a launcher of it.
    pub(crate) agent: &'a Path,
    /// The app `counter` of the tests.
    pub(crate) bundle: &'a Path,
    /// Who signed it.
    pub(crate) author: &'a str,
    /// An empty folder.
    pub(crate) dir: &'a Path,
}

/// Runs it.
///
/// # Errors
/// The gateway does not do what it has to; the message names its log.
pub(crate) fn run(plan: &Plan<'_>) -> Result<Seen> {
    let setup = Setup {
        agent: plan.agent.to_str().context("the path is not UTF-8")?.to_owned(),
        author_keys: vec![plan.author.to_owned()],
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(plan.dir, &setup)?;
    let began = Instant::now();
    gateway.start()?;
    let ready_ms = began.elapsed().as_millis();
    let machine = machine(&gateway.printed())?;
    let began = Instant::now();
    gateway.deploy(plan.bundle)?;
    let deploy_ms = began.elapsed().as_millis();
    let mut times = count(&gateway, 1, 3)?;
    // Power off, in its mildest form.
    gateway.kill()?;
    gateway.start()?;
    times.extend(count(&gateway, 4, 2).context("after SIGKILL and a start")?);
    gateway.stop()?;
    times.sort_unstable();
    Ok(Seen { machine, ready_ms, deploy_ms, result_ms: times[times.len() / 2] })
}

/// Publishes `messages`; the function answers with how many there were, `first` at first. Returns
/// the milliseconds that each took.
fn count(gateway: &Gateway, first: u64, messages: u64) -> Result<Vec<u128>> {
    let login = Login::anonymous(gateway.address(), "target-check");
    let mut client = Client::connect(&login)?;
    subscribe(&mut client)?;
    let mut times = Vec::new();
    for n in first..first + messages {
        let began = Instant::now();
        publish(&mut client, n)?;
        let counted = result(&mut client)?;
        ensure!(counted == n.to_string(), "the function counted {counted}, not {n}");
        times.push(began.elapsed().as_millis());
    }
    Ok(times)
}

fn subscribe(client: &mut Client) -> Result<()> {
    client.queue(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).context("1 is a packet id")?,
        subscription_id: None,
        filters: vec![("count/+".parse()?, SubscribeOptions::default())],
    }));
    client.flush()
}

fn publish(client: &mut Client, n: u64) -> Result<()> {
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("sensors/press")?,
        packet_id: PacketId::new(u16::try_from(n)?),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from_static(b"21.5"),
    }));
    client.flush()
}

/// The next result, and the ack of what caused it, in whatever order they come.
fn result(client: &mut Client) -> Result<String> {
    let (mut acked, mut counted) = (false, None);
    let until = Instant::now() + MESSAGE_MAX;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match client.next(left)?.with_context(|| format!("no result within {MESSAGE_MAX:?}"))? {
            Packet::PubAck(_) => acked = true,
            Packet::Publish(publish) => {
                counted = Some(String::from_utf8_lossy(&publish.payload).into_owned());
            }
            Packet::Disconnect(why) => bail!("disconnected: {why:?}"),
            _ => {}
        }
        if acked && let Some(counted) = counted.take() {
            return Ok(counted);
        }
    }
}

/// What the agent said of its machine when it started.
fn machine(printed: &str) -> Result<String> {
    let word = printed.split_whitespace().find_map(|word| word.strip_prefix("machine="));
    word.map(str::to_owned).context("the agent's log does not name its machine")
}
