//! Commands that talk with devices.

use clap::Args;

use crate::args::Broker;

/// `holm device command`
#[derive(Debug, Args)]
#[command(after_help = "\
The gateway keeps the command for a device that is away, if the device keeps its session. A device
does a command once, however often it arrives. The exit code is 0 if the device says that it is done.

The account needs `publish = [\"$holm/v1/down/NAME/command\"]` and
`subscribe = [\"$holm/v1/up/NAME/response\"]` in the gateway's agent.toml; `+` stands for all devices.

Examples:
  holm device command press-7 set-rate --u32 5
  holm device command press-7 restart --wait 60
  holm device command press-7 blink --text 'twice' -b mqtts://gw-1 --ca ca.pem -u boss --password-file boss.token")]
pub struct SendCommand {
    /// Device
    pub device: String,
    /// Command, 1 to 32 bytes
    pub name: String,
    /// The argument.
    #[command(flatten)]
    pub body: Body,
    /// Seconds to wait for the answer; 0: until the gateway has the command
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub wait: u64,
    /// Seconds after which the gateway does not deliver it any more [default: never]
    #[arg(long, value_name = "S")]
    pub expiry: Option<u32>,
    /// Connection.
    #[command(flatten)]
    pub broker: Broker,
}

/// `holm device desired`
#[derive(Debug, Args)]
#[command(after_help = "\
The gateway keeps the latest document, and a device gets it whenever it comes. A device applies a
document whose version is above that of the last one that it applied.

The account needs `publish` of $holm/v1/down/NAME/desired and `subscribe` to that and to
$holm/v1/up/NAME/reported in the gateway's agent.toml.

Examples:
  holm device desired press-7 --text 'rate = 5'
  holm device desired press-7 --hex 0a14 --schema bcbc55d1530102e5 --version 12")]
pub struct SetDesired {
    /// Device
    pub device: String,
    /// The document.
    #[command(flatten)]
    pub body: Body,
    /// Version of the document [default: one above the last one known]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
    /// Connection.
    #[command(flatten)]
    pub broker: Broker,
}

/// `holm device shadow`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm device shadow press-7
  holm device shadow press-7 --json")]
pub struct OneDevice {
    /// Device
    pub device: String,
    /// Connection.
    #[command(flatten)]
    pub broker: Broker,
}

/// The bytes of a command or of a document; without any, none.
#[derive(Debug, Args)]
pub struct Body {
    /// As text
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["hex", "u32"])]
    pub text: Option<String>,
    /// In hexadecimal
    #[arg(long, value_name = "HEX", conflicts_with = "u32")]
    pub hex: Option<String>,
    /// A number, as the device protocol writes it (postcard)
    #[arg(long, value_name = "N")]
    pub u32: Option<u32>,
    /// Schema of the bytes, 16 hexadecimal digits, for a device that takes a typed message
    #[arg(long, value_name = "ID")]
    pub schema: Option<String>,
}
