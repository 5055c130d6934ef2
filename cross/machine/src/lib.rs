//! The QEMU machine that an image of the board `virt` boots on, as a command line. `cargo xtask gateway-vm` and
//! `holm simulate gateway` start the same machine by it; xtask does without all that `holm` is made of.
//!
//! Nothing here starts a program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-aarch64";
/// Debian's package of it.
pub const PACKAGE: &str = "qemu-system-arm";
/// Where Debian has the boot loader of this machine.
pub const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// Debian's package of it.
pub const U_BOOT_PACKAGE: &str = "u-boot-qemu";
/// The address at which the machine finds the host's loopback: QEMU's network, which nobody else is on.
pub const HOST: &str = "10.0.2.2";

/// The card in the machine, an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Card {
    /// The machine writes to it.
    Own(PathBuf),
    /// The machine writes to it, and somebody behind the file records what: no discards, and zeros as
    /// data. What has no data in a record could not be cut.
    Recorded(PathBuf),
    /// It stays as it is. What the machine writes goes to a temporary file, and is gone with the
    /// machine.
    Borrowed(PathBuf),
}

/// A port of the host's loopback that leads to one of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// On 127.0.0.1.
    pub host: u16,
    /// In the machine.
    pub guest: u16,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virt {
    /// Its card.
    pub card: Card,
    /// Its boot loader.
    pub u_boot: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Ways in. The machine reaches everything that the host reaches.
    pub forwards: Vec<Forward>,
    /// Its clock shows 1970, like that of a board without a battery; else that of the host.
    pub is_at_1970: bool,
}

/// A path that cannot stand in an option of QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPath(PathBuf);

impl std::fmt::Display for BadPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.0.display();
        write!(f, "{path}: QEMU takes no path with a comma, or that is not UTF-8; choose another")
    }
}

impl std::error::Error for BadPath {}

impl Virt {
    /// Starts it. The console is standard output; nothing is read from standard input that is not given there.
    ///
    /// # Errors
    /// A path cannot stand in an option.
    pub fn command(&self) -> Result<Command, BadPath> {
        let mut command = Command::new(PROGRAM);
        command.args(["-M", "virt", "-cpu", "cortex-a72", "-smp", "2"]);
        command.args(["-m", &self.memory_mib.to_string()]);
        if self.is_at_1970 {
            command.args(["-rtc", "base=1970-01-01"]);
        }
        command.args(["-display", "none", "-nodefaults", "-serial", "stdio", "-bios"]);
        command.arg(&self.u_boot);
        self.card.options(&mut command)?;
        let forwards = self.forwards.iter();
        let forwards = forwards
            .map(|Forward { host, guest }| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        command.args(["-netdev", &format!("user,id=lan{}", forwards.collect::<String>())]);
        command.args(["-device", "virtio-net-device,netdev=lan"]);
        command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        Ok(command)
    }
}

impl Card {
    fn options(&self, command: &mut Command) -> Result<(), BadPath> {
        let (image, of_drive, of_device) = match self {
            Self::Own(image) => (image, "", ""),
            Self::Borrowed(image) => (image, ",snapshot=on", ""),
            Self::Recorded(image) => (image, "", ",discard=off,write-zeroes=off"),
        };
        let image = plain(image)?;
        command.args(["-drive", &format!("file={image},if=none,id=card,format=raw{of_drive}")]);
        command.args(["-device", &format!("virtio-blk-device,drive=card{of_device}")]);
        Ok(())
    }
}

/// A path as it stands in an option of QEMU, where a comma ends it.
///
/// # Errors
/// It has one, or is not UTF-8.
pub fn plain(path: &Path) -> Result<&str, BadPath> {
    let text = path.to_str().filter(|text| !text.contains(','));
    text.ok_or_else(|| BadPath(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(card: Card) -> Result<String, BadPath> {
        let forwards =
            vec![Forward { host: 2_000, guest: 8_883 }, Forward { host: 2_001, guest: 22 }];
        let u_boot = PathBuf::from("u-boot.bin");
        let command =
            Virt { card, u_boot, memory_mib: 256, forwards, is_at_1970: true }.command()?;
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_borrowed_card_is_not_written_to() {
        let own = words(Card::Own("a.img".into())).unwrap();
        let borrowed = words(Card::Borrowed("a.img".into())).unwrap();
        assert!(own.contains("file=a.img,") && !own.contains("snapshot"), "{own}");
        assert!(borrowed.contains("snapshot=on"), "{borrowed}");
        let net = "user,id=lan,hostfwd=tcp:127.0.0.1:2000-:8883,hostfwd=tcp:127.0.0.1:2001-:22";
        assert!(own.contains(net) && own.contains("-m 256"), "{own}");
    }

    #[test]
    fn a_recorded_card_takes_no_discards() {
        let words = words(Card::Recorded("a.img".into())).unwrap();
        assert!(words.contains("file=a.img,") && !words.contains("snapshot"), "{words}");
        assert!(words.contains("drive=card,discard=off,write-zeroes=off"), "{words}");
    }

    #[test]
    fn a_path_that_would_end_an_option_is_refused() {
        let refused = words(Card::Own("a,b.img".into())).unwrap_err();
        assert!(refused.to_string().contains("comma"), "{refused}");
    }
}
