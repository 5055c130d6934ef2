//! Commands that speak MQTT.

use std::path::PathBuf;

use clap::Args;

/// How to reach a gateway's broker.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct Broker {
    /// The gateway's broker: mqtt://HOST[:1883], or with TLS mqtts://HOST[:8883]
    #[arg(long, short = 'b', value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    #[arg(env = "HOLM_BROKER", hide_env_values = true)]
    pub broker: String,
    /// Device to connect as; without one anonymously, which gateways may allow on loopback
    #[arg(long, short, value_name = "NAME", env = "HOLM_USER", hide_env_values = true)]
    pub user: Option<String>,
    /// File with the device's password or token, `-` for standard input
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Authority that the broker's certificate must come from (PEM); needed for mqtts://
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Own certificate, to connect with instead of a password (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Client identifier [default: a random one]
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Seconds to wait for the connection and for acknowledgements
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub timeout: u64,
}

/// `holm pub`
#[derive(Debug, Args)]
#[command(after_help = "\
With QoS 1 and 2 the command ends when every message is acknowledged: on a Holm gateway that means
it is on disk.

Examples:
  holm pub sensors/a/temperature '{\"celsius\": 21.5}'
  holm pub sensors/a/temperature - < readings.jsonl        # one message a line
  holm pub - < messages.txt                                # each line: TOPIC PAYLOAD, as `holm sub` prints
  holm pub t hello -b mqtts://gw-1 --ca ca.pem -u press-7 --password-file press-7.token
  holm pub t hello -b mqtts://gw-1 --ca ca.pem --cert press-7.pem --key press-7.key
  holm pub t hello --retain --property unit=celsius --message-ids")]
pub struct Publish {
    /// Topic; `-`: each line of standard input is TOPIC PAYLOAD
    pub topic: String,
    /// Payload; `-`: each line of standard input is one
    pub payload: Option<String>,
    /// The payload is this file's content
    #[arg(long, short, value_name = "FILE", conflicts_with = "payload")]
    pub file: Option<PathBuf>,
    /// Quality of service: 0, 1 or 2
    #[arg(long, short = 'Q', value_name = "QOS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Keep it as the topic's retained message
    #[arg(long, short)]
    pub retain: bool,
    /// User property, may be repeated
    #[arg(long, short = 'P', value_name = "NAME=VALUE")]
    pub property: Vec<String>,
    /// Content type
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Seconds after which the message is not delivered any more [default: never]
    #[arg(long, value_name = "S")]
    pub expiry: Option<u32>,
    /// Give each message an id, so that functions work on it once even if it is sent twice
    #[arg(long)]
    pub message_ids: bool,
    /// Connection.
    #[command(flatten)]
    pub broker: Broker,
}

/// `holm sub`
#[derive(Debug, Args)]
#[command(after_help = "\
Prints TOPIC PAYLOAD lines, which `holm pub -` and `holm invoke` understand.

Examples:
  holm sub 'alarms/#'
  holm sub 'smooth/+' 'alarms/#' --count 10 --json
  holm sub 'sensors/#' -b mqtts://gw-1 --ca ca.pem -u viewer --password-file viewer.token")]
pub struct Subscribe {
    /// Topic filters
    #[arg(required = true, value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Highest quality of service: 0, 1 or 2
    #[arg(long, short = 'Q', value_name = "QOS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// End after so many messages [default: at Ctrl-C]
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// End after so many seconds; with --count and too few messages that is exit code 8
    #[arg(long = "for", value_name = "S")]
    pub for_s: Option<u64>,
    /// Print payloads without their topics
    #[arg(long, conflicts_with = "json")]
    pub payload_only: bool,
    /// Do not print retained messages
    #[arg(long)]
    pub no_retained: bool,
    /// Connection.
    #[command(flatten)]
    pub broker: Broker,
}
