//! Scripts: their text, and how they run against a broker.
//!
//! ```text
//! == name-of-the-script
//! only broker: why                 where it runs, if not everywhere
//! a > connect v5 id=a alias=4      client `a` opens a connection and sends this
//! a < connack code=0x00 fresh      the next packet it receives has these properties
//! b > connect v311 id=b
//! b < connack code=0x00
//! b > publish topic=t payload=x
//! a < nothing                      a ping is answered, and nothing came before the answer
//! a > close                        the network connection breaks
//! wait 1500                        milliseconds; of virtual time, so only for `broker`
//! restart                          the process dies and starts again
//! a < closed                       the broker closes the connection, and sends nothing before
//! ```
//! A property after `!` is one that the packet must not have. `id=last` in an ack is the packet
//! id of the last PUBLISH the client received.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use edge_broker::codec::{Decoder, Packet, PacketId, Version};

use super::packet::{Sent, parse};
use super::peer::{Peer, Received};
use super::show::show;

/// A scripted exchange.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name, unique among all.
    pub name: String,
    /// The kinds of broker it is for; empty for all.
    pub only: Vec<String>,
    steps: Vec<(usize, Step)>,
}

#[derive(Clone, Debug)]
enum Step {
    Send(String, String),
    Expect(String, String),
    Close(String),
    Wait(u64),
    Restart,
}

/// All scripts of a folder.
///
/// # Errors
/// A file cannot be read, or a line means nothing.
pub fn read_all(dir: &Path) -> Result<Vec<Script>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "script") {
            files.push(path);
        }
    }
    files.sort();
    let mut scripts = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        scripts.append(&mut read(&text).with_context(|| format!("{}", file.display()))?);
    }
    Ok(scripts)
}

fn read(text: &str) -> Result<Vec<Script>> {
    let mut scripts: Vec<Script> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            scripts.push(Script { name: name.to_owned(), only: Vec::new(), steps: Vec::new() });
            continue;
        }
        let script = scripts.last_mut().context("a line before the first `== name`")?;
        if let Some(only) = line.strip_prefix("only ") {
            let (kinds, _why) = only.split_once(':').context("`only` wants a reason")?;
            script.only = kinds.split_whitespace().map(str::to_owned).collect();
            continue;
        }
        let step = step(line).with_context(|| format!("line {}: {line}", at + 1))?;
        script.steps.push((at + 1, step));
    }
    Ok(scripts)
}

fn step(line: &str) -> Result<Step> {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    Ok(match words[..] {
        ["restart"] => Step::Restart,
        ["wait", ms] => Step::Wait(ms.parse()?),
        [client, ">", "close"] => Step::Close(client.to_owned()),
        [client, ">", what] => Step::Send(client.to_owned(), what.to_owned()),
        [client, "<", what] => Step::Expect(client.to_owned(), what.to_owned()),
        _ => bail!("neither a packet nor an event"),
    })
}

/// One client of a running script.
struct Client {
    version: Version,
    decoder: Decoder,
    buf: BytesMut,
    /// Packet id of the last PUBLISH received.
    last: u16,
}

impl Script {
    /// Whether it is for this kind of broker.
    #[must_use]
    pub fn is_for(&self, kind: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == kind)
    }

    /// The script once for each of its expectations, with this one wrong, and its line.
    pub fn with_each_expectation_wrong(&self) -> impl Iterator<Item = (usize, Self)> {
        self.steps.iter().enumerate().filter_map(|(at, (line, step))| {
            let Step::Expect(client, text) = step else { return None };
            let wrong = match text.as_str() {
                "closed" => "nothing".to_owned(),
                "nothing" => "closed".to_owned(),
                text => format!("{text} wrong"),
            };
            let mut script = self.clone();
            script.steps[at].1 = Step::Expect(client.clone(), wrong);
            Some((*line, script))
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// What happened instead of what was expected, with the line.
    pub fn run(&self, peer: &mut dyn Peer) -> Result<()> {
        let mut clients = BTreeMap::new();
        for (line, step) in &self.steps {
            take_step(step, &mut clients, peer)
                .with_context(|| format!("{} line {line}: {step:?}", self.name))?;
        }
        Ok(())
    }
}

fn take_step(
    step: &Step,
    clients: &mut BTreeMap<String, Client>,
    peer: &mut dyn Peer,
) -> Result<()> {
    match step {
        Step::Restart => peer.restart(),
        Step::Wait(ms) => peer.wait(*ms),
        Step::Close(name) => {
            clients.remove(name);
            peer.close(name)
        }
        Step::Send(name, text) => {
            let (version, last) =
                clients.get(name).map_or((Version::V5, 0), |client| (client.version, client.last));
            match parse(text, version, last)? {
                Sent::Open { version, topic_alias_max, bytes } => {
                    let mut decoder = Decoder::client(version, 1 << 20);
                    decoder.accept_topic_aliases(topic_alias_max, 1 << 16);
                    let client = Client { version, decoder, buf: BytesMut::new(), last: 0 };
                    clients.insert(name.clone(), client);
                    peer.open(name)?;
                    peer.send(name, &bytes)
                }
                Sent::Bytes(bytes) => peer.send(name, &bytes),
            }
        }
        Step::Expect(name, text) => {
            let client = clients.get_mut(name).context("this client has not connected")?;
            expect(client, name, text, peer)
        }
    }
}

fn expect(client: &mut Client, name: &str, text: &str, peer: &mut dyn Peer) -> Result<()> {
    match text {
        "closed" => match receive(client, name, peer)? {
            None => Ok(()),
            Some(packet) => bail!("not closed, but {}", show(&packet)),
        },
        "nothing" => {
            peer.send(name, &[0xC0, 0])?;
            match receive(client, name, peer)? {
                Some(Packet::PingResp) => Ok(()),
                Some(packet) => bail!("not nothing, but {}", show(&packet)),
                None => bail!("the connection was closed"),
            }
        }
        text => {
            let packet = receive(client, name, peer)?.context("the connection was closed")?;
            if let Packet::Publish(publish) = &packet {
                client.last = publish.packet_id.map_or(0, PacketId::get);
            }
            matches(&show(&packet), text)
        }
    }
}

/// The next packet, or `None` if the connection is closed.
fn receive(client: &mut Client, name: &str, peer: &mut dyn Peer) -> Result<Option<Packet>> {
    loop {
        if let Some(packet) = client.decoder.decode(&mut client.buf)? {
            return Ok(Some(packet));
        }
        match peer.receive(name)? {
            Received::Bytes(bytes) => client.buf.extend_from_slice(&bytes),
            Received::Closed => {
                ensure!(client.buf.is_empty(), "closed within a packet");
                return Ok(None);
            }
            Received::Nothing => bail!("nothing comes"),
        }
    }
}

/// Whether a packet has all the properties that are expected of it.
fn matches(shown: &str, expected: &str) -> Result<()> {
    let has: Vec<&str> = shown.split(' ').collect();
    for word in expected.split_whitespace() {
        let holds = match word.strip_prefix('!') {
            Some(not) => !has.iter().any(|it| *it == not || it.starts_with(&format!("{not}="))),
            None => has.contains(&word),
        };
        ensure!(holds, "`{word}` does not hold for: {shown}");
    }
    let kind = expected.split_whitespace().next();
    ensure!(kind == has.first().copied(), "not {kind:?}, but {shown}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_asks_for_its_words_only() {
        let shown = "publish topic=a payload=x qos=1 id=3 sid=1,2";
        assert!(matches(shown, "publish qos=1 topic=a !dup !retain").is_ok());
        assert!(matches(shown, "publish !sid").is_err());
        assert!(matches(shown, "publish qos=2").is_err());
        assert!(matches(shown, "topic=a").is_err(), "the kind is asked for");
    }

    #[test]
    fn text_that_means_nothing_is_refused_with_its_line() {
        let error = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(error("a > pingreq").contains("before the first"));
        assert!(error("== x\n\nsoon").contains("line 3: soon"));
        assert!(error("== x\nonly broker").contains("reason"));
        assert_eq!(read("== x\n# words\n== y\nrestart").unwrap().len(), 2);
    }
}
