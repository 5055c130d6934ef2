//! Devices that attack: each knows one good account, its own, and tries everything else. What the gateway does not refuse
//! is in the ledger; a message that anybody sees is found by the number of its boot.

use std::time::Duration;

use device_protocol::{CONTENT_TYPE, Envelope, SchemaId, Timestamp};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credentials;
use super::random::Random;
use super::shared::{Phase, Shared, Standing};

/// Longest time for an answer; a gateway that is silent for so long has not taken the message.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const NOISE_BYTES: usize = 200;

/// What is tried, in words of who reads the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// An unknown name.
    Stranger,
    /// Its own name, another token.
    WrongToken,
    /// An envelope in the name of another device, on its own topic.
    StolenName,
    /// An envelope of its own on the topic of another device.
    ForgedTopic,
    /// Tells another device the time, as only a gateway may.
    ForgedTime,
    /// Garbage that says it is an envelope.
    Garbage,
    /// Bytes that are no MQTT.
    Noise,
}

const ATTACKS: [Attack; 7] = [
    Attack::Stranger,
    Attack::WrongToken,
    Attack::StolenName,
    Attack::ForgedTopic,
    Attack::ForgedTime,
    Attack::Garbage,
    Attack::Noise,
];

/// Attacks until the storm is over.
pub(super) async fn run(shared: &Shared, device: usize) {
    let handle = &shared.handles[device];
    let every_ms = shared.profile.hostile.map_or(5_000, |hostile| hostile.every_ms);
    let mut random = Random::of(credentials::fresh_seed(), "hostile", device as u64);
    let boot = random.bits();
    shared.ledger().outlaw(boot);
    if !shared.until(handle.plan.joins_ms, Phase::Settling).await {
        return;
    }
    handle.view().standing = Standing::Hostile;
    let first = Random::of(shared.seed, "first attack", device as u64).below(ATTACKS.len());
    for (sequence, attack) in (0..).zip(ATTACKS.iter().cycle().skip(first)) {
        let foe = Foe { shared, device, boot, sequence };
        let is_refused = foe.attack(*attack, &mut random).await;
        {
            let mut ledger = shared.ledger();
            let account = ledger.account(device);
            account.attacks += 1;
            if let Err(how) = is_refused {
                account.taken.push(format!("{attack:?}: {how}"));
            }
        }
        if !shared.until(shared.now_ms() + random.about(every_ms), Phase::Settling).await {
            return;
        }
    }
}

struct Foe<'s> {
    shared: &'s Shared,
    device: usize,
    boot: u64,
    sequence: u64,
}

impl Foe<'_> {
    fn name(&self) -> &str {
        &self.shared.handles[self.device].plan.name
    }

    /// Another device, if there is one.
    fn victim(&self, random: &mut Random) -> &str {
        let all = self.shared.handles.len();
        if all < 2 {
            return "sim-other";
        }
        let step = 1 + random.below(all - 1);
        &self.shared.handles[(self.device + step) % all].plan.name
    }

    /// # Errors
    /// It was not refused: how.
    async fn attack(&self, attack: Attack, random: &mut Random) -> Result<(), String> {
        let victim = self.victim(random).to_owned();
        let own = self.shared.profile.topic_of(self.name());
        let token = self.shared.credentials.token(self.name()).unwrap_or_default();
        match attack {
            Attack::Stranger => self.login("stranger", "0000").await,
            Attack::WrongToken => self.login(self.name(), &format!("{token}0")).await,
            Attack::StolenName => self.publish(&own, self.envelope(&victim)).await,
            Attack::ForgedTopic => {
                let topic = self.shared.profile.topic_of(&victim);
                self.publish(&topic, self.envelope(self.name())).await
            }
            Attack::ForgedTime => {
                let topic = format!("$holm/v1/down/{victim}/time");
                self.publish(&topic, self.envelope(self.name())).await
            }
            Attack::Garbage => self.publish(&own, noise(random)).await,
            Attack::Noise => self.noise(random).await,
        }
    }

    fn envelope(&self, device: &str) -> Vec<u8> {
        let envelope = Envelope {
            device,
            boot: self.boot,
            sequence: self.sequence,
            schema: SchemaId::RAW,
            time: Timestamp::uptime(0),
            body: b"{\"temperature\":666}",
        };
        let mut bytes = vec![0; 512];
        let length = envelope.encode(&mut bytes).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    fn options(&self, user: &str, token: &str) -> MqttOptions {
        let gateway = &self.shared.gateway;
        let (host, port) = gateway.rsplit_once(':').unwrap_or((gateway, "1883"));
        let host = host.trim_matches(['[', ']']);
        // Not the name of the device: that one may not lose its connection to it.
        let id = format!("{}-foe-{:08x}", self.name(), self.boot >> 32);
        let mut options = MqttOptions::new(id, host, port.parse().unwrap_or(1883));
        options.set_credentials(user, token).set_keep_alive(ANSWER_MAX);
        options
    }

    /// Tries to be let in.
    async fn login(&self, user: &str, token: &str) -> Result<(), String> {
        let (_client, mut events) = AsyncClient::new(self.options(user, token), 4);
        match timeout(ANSWER_MAX, events.poll()).await {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => Err(format!("`{user}` was let in")),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Connects with its own token, and publishes what it should not.
    async fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), String> {
        let token = self.shared.credentials.token(self.name()).unwrap_or_default();
        let (client, mut events) = AsyncClient::new(self.options(self.name(), token), 4);
        let properties = PublishProperties {
            content_type: Some(CONTENT_TYPE.to_owned()),
            ..PublishProperties::default()
        };
        let published =
            client.try_publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties);
        if published.is_err() {
            return Ok(());
        }
        let answer = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(ack))) => return Some(ack.reason),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        match timeout(ANSWER_MAX, answer).await {
            Ok(Some(PubAckReason::Success | PubAckReason::NoMatchingSubscribers)) => {
                Err(format!("acknowledged on {topic}"))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Sends bytes that are no MQTT: the gateway has to close.
    async fn noise(&self, random: &mut Random) -> Result<(), String> {
        let talk = async {
            let mut stream = TcpStream::connect(&self.shared.gateway).await?;
            stream.write_all(&noise(random)).await?;
            // Whatever it answers, at last it closes.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await
        };
        match timeout(ANSWER_MAX, talk).await {
            Ok(_) => Ok(()),
            Err(_) => Err("the connection stays open".to_owned()),
        }
    }
}

/// No sound packet and no sound envelope: the first byte is neither.
fn noise(random: &mut Random) -> Vec<u8> {
    let bytes = (0..NOISE_BYTES).map(|_| random.bits().to_le_bytes()[0]);
    std::iter::once(0xff).chain(bytes).collect()
}
