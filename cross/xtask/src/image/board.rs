//! The boards, and what differs between them.

use clap::ValueEnum;

/// A board that images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// The machine `virt` of QEMU.
    Virt,
    /// Raspberry Pi 3A+, 3B and 3B+.
    Rpi3,
    /// Raspberry Pi Zero 2 W.
    Zero2w,
    /// Raspberry Pi 4B, 400 and Compute Module 4.
    Rpi4,
}

/// Modules that every board needs: file systems, and what the names in them are written in.
const MODULES: &[&str] =
    &["ext4", "squashfs", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859-1", "crc32c_generic"];

const MODULES_VIRT: &[&str] =
    &["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio-rng", "i6300esb"];

/// The card, the clock and power controllers, Ethernet on the board and on USB, the watchdog.
const MODULES_PI: &[&str] = &[
    "sdhci-iproc",
    "bcm2835",
    "bcm2835_wdt",
    "dwc2",
    "phy-generic",
    "reset-raspberrypi",
    "xhci-pci",
    "genet",
    "broadcom",
    "mdio-bcm-unimac",
    "smsc95xx",
    "lan78xx",
    "cdc_ether",
    "r8152",
    "asix",
    "ax88179_178a",
    "leds-gpio",
    "iproc-rng200",
    "bcm2835-rng",
];

/// Serial adapters on USB: FTDI, Silicon Labs, WCH, Prolific, and those that are modems by name.
pub(crate) const SERIAL_MODULES: &[&str] =
    &["xhci-pci", "ftdi_sio", "cp210x", "ch341", "pl2303", "cdc_acm"];

/// Firmware that the chip loads from the boot partition before U-Boot.
const FIRMWARE_3: &[&str] = &["bootcode.bin", "start.elf", "fixup.dat"];
const FIRMWARE_4: &[&str] = &["start4.elf", "fixup4.dat"];

/// Addresses in memory that the boot script uses, hexadecimal. What is loaded there must not
/// overlap: the unpacked kernel has about 40 MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// The boot record's copies and what is made of them.
    pub(crate) scratch: &'static str,
    /// The kernel, unpacked.
    pub(crate) kernel: &'static str,
    /// The kernel as it is on the disk.
    pub(crate) packed: &'static str,
    /// The initramfs.
    pub(crate) ramdisk: &'static str,
}

impl Board {
    /// As it is named on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Rpi3 => "rpi3",
            Self::Zero2w => "zero2w",
            Self::Rpi4 => "rpi4",
        }
    }

    /// Whether it is a Raspberry Pi.
    pub(crate) fn is_pi(self) -> bool {
        self != Self::Virt
    }

    /// What was seen of it running; printed with every image.
    pub(crate) fn tested(self) -> &'static str {
        match self {
            Self::Virt => "boots in QEMU (`cargo xtask gateway-vm --test`)",
            Self::Rpi3 => "boots in QEMU's raspi3b without network, never on hardware",
            Self::Zero2w | Self::Rpi4 => {
                "built, boot files and partitions checked, never booted: neither emulator nor hardware"
            }
        }
    }

    /// Consoles of the kernel. All get its messages and the status of the gateway.
    pub(crate) fn consoles(self) -> &'static str {
        match self {
            Self::Virt => "console=ttyAMA0",
            Self::Rpi3 | Self::Zero2w | Self::Rpi4 => {
                "console=tty1 console=ttyS1,115200 console=ttyAMA0,115200"
            }
        }
    }

    /// Where the boot script puts things.
    pub(crate) fn addresses(self) -> Addresses {
        match self {
            Self::Virt => Addresses {
                scratch: "43f00000",
                kernel: "44000000",
                packed: "48000000",
                ramdisk: "4a000000",
            },
            Self::Rpi3 | Self::Zero2w | Self::Rpi4 => Addresses {
                scratch: "05f00000",
                kernel: "00200000",
                packed: "06000000",
                // QEMU keeps the device tree at 08000000, the firmware of the chip far above.
                ramdisk: "0a000000",
            },
        }
    }

    /// Kernel modules that it needs; those of others come along.
    pub(crate) fn modules(self) -> Vec<&'static str> {
        let own = if self.is_pi() { MODULES_PI } else { MODULES_VIRT };
        [own, MODULES].concat()
    }

    /// Kernel modules of Wi-Fi, loaded where a network is configured. QEMU has radios only as the kernel
    /// itself plays them.
    pub(crate) fn wifi_modules(self) -> &'static [&'static str] {
        if self.is_pi() {
            &["brcmfmac", "brcmfmac-wcc", "brcmfmac-cyw"]
        } else {
            // It has no ciphers of its own, as chips do.
            &["ccm", "cmac", "ctr", "gcm", "mac80211_hwsim"]
        }
    }

    /// Firmware files of `raspi-firmware`.
    pub(crate) fn firmware(self) -> &'static [&'static str] {
        match self {
            Self::Virt => &[],
            Self::Rpi3 | Self::Zero2w => FIRMWARE_3,
            Self::Rpi4 => FIRMWARE_4,
        }
    }

    /// Device trees, by the beginning of their names.
    pub(crate) fn device_trees(self) -> &'static str {
        match self {
            Self::Virt => "-",
            Self::Rpi3 => "bcm2837-rpi-3",
            Self::Zero2w => "bcm2837-rpi-zero-2",
            Self::Rpi4 => "bcm2711-rpi-",
        }
    }
}
