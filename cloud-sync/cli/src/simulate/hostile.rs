//! Devices that attack: each knows one good secret, its own, and tries everything else. What the gateway does not refuse
//! is in the ledger; a message that anybody sees is found by the number of its boot.

use std::time::Duration;

use device_protocol::{CONTENT_TYPE, Envelope, SchemaId, Timestamp};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{self, Pair};
use super::credentials;
use super::judge::Expected;
use super::ledger::Account;
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
    /// Its own name, another token or certificate.
    WrongSecret,
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
    Attack::WrongSecret,
    Attack::StolenName,
    Attack::ForgedTopic,
    Attack::ForgedTime,
    Attack::Garbage,
    Attack::Noise,
];

/// What became of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It did not reach the gateway, or nobody knows: that proves nothing.
    Lost,
    /// The gateway had it, and did not take it.
    Refused,
    /// It was not refused: how.
    Taken(String),
}

/// Whether a day that ends now must have seen an attack. The first comes as soon as its device does, and has an answer
/// within [`ANSWER_MAX`], or there is no gateway to speak of.
pub(super) fn expected(shared: &Shared) -> Expected {
    let hostile = shared.handles.iter().filter(|handle| handle.plan.is_hostile);
    let Some(first_ms) = hostile.map(|handle| handle.plan.joins_ms).min() else {
        return Expected::No;
    };
    let sure = Duration::from_millis(first_ms) + 2 * ANSWER_MAX;
    if shared.begun.elapsed() < sure { Expected::IfAny } else { Expected::Yes }
}

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
        let outcome = tokio::select! {
            outcome = foe.attack(*attack, &mut random) => outcome,
            () = shared.reached(Phase::Stopped) => return,
        };
        note(shared.ledger().account(device), *attack, outcome);
        if !shared.until(shared.now_ms() + random.about(every_ms), Phase::Settling).await {
            return;
        }
    }
}

fn note(account: &mut Account, attack: Attack, outcome: Outcome) {
    account.tries += 1;
    account.attacks += u64::from(outcome != Outcome::Lost);
    if let Outcome::Taken(how) = outcome {
        account.taken.push(format!("{attack:?}: {how}"));
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

    async fn attack(&self, attack: Attack, random: &mut Random) -> Outcome {
        let victim = self.victim(random).to_owned();
        let own = self.shared.profile.topic_of(self.name());
        let token = self.shared.credentials.token(self.name()).unwrap_or_default();
        match attack {
            Attack::Stranger => {
                self.login("stranger", self.forged_options("stranger", "0000", None)).await
            }
            Attack::WrongSecret => {
                let pair = self.forged_pair();
                let forged = self.forged_options(self.name(), &format!("{token}0"), pair);
                self.login(self.name(), forged).await
            }
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

    /// Not the id of the device: that one may not lose its connection to it.
    fn id(&self) -> String {
        format!("{}-foe-{:08x}", self.name(), self.boot >> 32)
    }

    /// As itself.
    fn own_options(&self) -> Result<MqttOptions, String> {
        let Shared { credentials, gateway, .. } = self.shared;
        client::as_device(credentials, gateway, self.id(), self.name())
    }

    /// Under a name that is not its own, or with a secret that is none.
    fn forged_options(
        &self,
        user: &str,
        token: &str,
        pair: Option<Pair>,
    ) -> Result<MqttOptions, String> {
        let Shared { credentials, gateway, .. } = self.shared;
        let mut options = client::options(credentials, gateway, self.id(), pair)?;
        options.set_credentials(user, token);
        Ok(options)
    }

    /// A certificate in its name that it has made itself, where it has another one.
    fn forged_pair(&self) -> Option<Pair> {
        self.shared.credentials.pair(self.name())?;
        let key = rcgen::KeyPair::generate().ok()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, self.name());
        let certificate = params.self_signed(&key).ok()?;
        Some(Pair { certificate: certificate.der().clone(), key: key.serialize_der().into() })
    }

    /// Tries to be let in.
    async fn login(&self, user: &str, options: Result<MqttOptions, String>) -> Outcome {
        let Ok(mut options) = options else { return Outcome::Lost };
        options.set_keep_alive(ANSWER_MAX);
        let (_client, mut events) = AsyncClient::new(options, 4);
        match timeout(ANSWER_MAX, events.poll()).await {
            Ok(Ok(_)) => Outcome::Taken(format!("`{user}` was let in")),
            // It was connected, said who it is, and was answered or cut off.
            Ok(Err(
                ConnectionError::ConnectionRefused(_)
                | ConnectionError::NotConnAck(_)
                | ConnectionError::MqttState(_),
            )) => Outcome::Refused,
            // In TLS 1.3 the refusal of a certificate stands in place of the first answer.
            Ok(Err(error)) if error.to_string().contains("received fatal alert") => {
                Outcome::Refused
            }
            Ok(Err(_)) | Err(_) => Outcome::Lost,
        }
    }

    /// Connects as itself, and publishes what it should not.
    async fn publish(&self, topic: &str, payload: Vec<u8>) -> Outcome {
        let Ok(mut options) = self.own_options() else { return Outcome::Lost };
        options.set_keep_alive(ANSWER_MAX);
        let (client, mut events) = AsyncClient::new(options, 4);
        let properties = PublishProperties {
            content_type: Some(CONTENT_TYPE.to_owned()),
            ..PublishProperties::default()
        };
        let published =
            client.try_publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties);
        if published.is_err() || !is_sent(&mut events).await {
            return Outcome::Lost;
        }
        match timeout(ANSWER_MAX, answer(&mut events)).await {
            Ok(Some(PubAckReason::Success | PubAckReason::NoMatchingSubscribers)) => {
                Outcome::Taken(format!("acknowledged on {topic}"))
            }
            Ok(_) | Err(_) => Outcome::Refused,
        }
    }

    /// Sends bytes that are no MQTT: the gateway has to close.
    async fn noise(&self, random: &mut Random) -> Outcome {
        let send = async {
            let mut stream = TcpStream::connect(&self.shared.gateway).await?;
            stream.write_all(&noise(random)).await?;
            std::io::Result::Ok(stream)
        };
        let Ok(Ok(mut stream)) = timeout(ANSWER_MAX, send).await else { return Outcome::Lost };
        // Whatever it answers, at last it closes.
        let mut rest = Vec::new();
        match timeout(ANSWER_MAX, stream.read_to_end(&mut rest)).await {
            Ok(_) => Outcome::Refused,
            Err(_) => Outcome::Taken("the connection stays open".to_owned()),
        }
    }
}

/// Waits until the gateway has let its own device in, and the message is on its way.
async fn is_sent(events: &mut EventLoop) -> bool {
    let sent = async {
        loop {
            match events.poll().await {
                Ok(Event::Outgoing(Outgoing::Publish(_))) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    timeout(ANSWER_MAX, sent).await.unwrap_or(false)
}

/// What the gateway says to the message; nothing: it ends the connection.
async fn answer(events: &mut EventLoop) -> Option<PubAckReason> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(ack))) => return Some(ack.reason),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// No sound packet and no sound envelope: the first byte is neither.
fn noise(random: &mut Random) -> Vec<u8> {
    let bytes = (0..NOISE_BYTES).map(|_| random.bits().to_le_bytes()[0]);
    std::iter::once(0xff).chain(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fake::{self, Gateway};

    /// What becomes of each attack at this gateway.
    async fn outcomes(gateway: &str) -> Vec<(Attack, Outcome)> {
        let shared = fake::shared(gateway, 2);
        let mut random = Random::of(1, "test", 0);
        let mut outcomes = Vec::new();
        for attack in ATTACKS {
            let foe = Foe { shared: &shared, device: 0, boot: 9, sequence: 0 };
            outcomes.push((attack, foe.attack(attack, &mut random).await));
        }
        outcomes
    }

    #[tokio::test]
    async fn what_no_gateway_hears_is_no_attack() {
        for (attack, outcome) in outcomes(&fake::nobody().await).await {
            assert_eq!(outcome, Outcome::Lost, "{attack:?}");
        }
    }

    #[tokio::test]
    async fn one_that_lets_nobody_in_has_seen_logins_and_noise_alone() {
        let gateway = fake::start(Gateway { login: 0x86, ..Gateway::default() }).await;
        for (attack, outcome) in outcomes(&gateway).await {
            let is_first = matches!(attack, Attack::Stranger | Attack::WrongSecret | Attack::Noise);
            let expected = if is_first { Outcome::Refused } else { Outcome::Lost };
            assert_eq!(outcome, expected, "{attack:?}");
        }
    }

    #[tokio::test]
    async fn what_is_taken_and_what_is_refused_is_told_apart() {
        let open = fake::start(Gateway::default()).await;
        let strict = fake::start(Gateway { publish: 0x87, ..Gateway::default() }).await;
        for ((attack, open), (_, strict)) in
            outcomes(&open).await.into_iter().zip(outcomes(&strict).await)
        {
            let is_login = matches!(attack, Attack::Stranger | Attack::WrongSecret);
            let is_taken = |outcome: &Outcome| matches!(outcome, Outcome::Taken(_));
            assert_eq!(is_taken(&open), attack != Attack::Noise, "{attack:?}: {open:?}");
            assert_eq!(is_taken(&strict), is_login, "{attack:?}: {strict:?}");
            assert_ne!(strict, Outcome::Lost, "{attack:?}");
        }
    }

    #[test]
    fn an_attack_must_have_been_made_when_there_was_the_time() {
        let mut shared = fake::shared("127.0.0.1:1", 2);
        assert_eq!(expected(&shared), Expected::No);
        let day = std::sync::Arc::get_mut(&mut shared).unwrap();
        day.handles[1].plan.is_hostile = true;
        assert_eq!(expected(day), Expected::IfAny);
        let Some(begun) = day.begun.checked_sub(3 * ANSWER_MAX) else { return };
        day.begun = begun;
        assert_eq!(expected(day), Expected::Yes);
        day.handles[1].plan.joins_ms = 60_000;
        assert_eq!(expected(day), Expected::IfAny);
    }

    #[test]
    fn only_what_reached_the_gateway_counts() {
        let shared = fake::shared("127.0.0.1:1", 1);
        for outcome in [Outcome::Lost, Outcome::Refused, Outcome::Taken("x".to_owned())] {
            note(shared.ledger().account(0), Attack::Garbage, outcome);
        }
        let ledger = shared.ledger();
        let account = &ledger.accounts()[0];
        assert_eq!((account.tries, account.attacks, account.taken.len()), (3, 2, 1));
    }
}
