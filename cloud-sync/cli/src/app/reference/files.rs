//! Tables of what an app brings beside functions of the gateway: images, programs, systems.

use super::{Table, key};

/// `[firmware.NAME]`
pub const FIRMWARE: Table = Table {
    title: "[firmware.NAME]",
    about: "An image for devices, offered by the gateway to each of its `[[devices]]` that a pattern \
            names, for as long as the app runs there. It is signed with the app's key; devices \
            trust that key, not the gateway. An app may have firmware and no function. See \
            *Firmware updates* in `docs/devices.md`.",
    keys: &[
        key("image", "\"press.bin\"", "", "The file, relative to `holm.toml`; {image}."),
        key(
            "board",
            "\"mps2-an385\"",
            "",
            "Board that it is built for, 1 to 32 bytes: a device of another board declines it.",
        ),
        key(
            "version",
            "number",
            "",
            "Version of the image, below 2^32. A device that runs this version takes nothing.",
        ),
        key(
            "floor",
            "number",
            "0",
            "Once a device runs this image it declines versions below the floor.",
        ),
        key(
            "devices",
            "array of patterns",
            "",
            "Names of devices, or the beginning of names with `*` behind it (`\"press-*\"`), at most \
             {device_patterns}. No device may be meant by two images.",
        ),
    ],
};

/// `[agent]`
pub const AGENT: Table = Table {
    title: "[agent]",
    about: "A version of the gateways' own program. A gateway whose agent was started by `edge-agent launch` takes \
            the program for its target, tries it, and keeps it or comes back to the one before; another one declines \
            the app. An app may have an agent and no function. See `docs/agent-updates.md`.",
    keys: &[
        key(
            "version",
            "\"0.2.0\"",
            "",
            "Version that the programs call themselves (`edge-agent --version`). A gateway declines one that calls itself \
             otherwise.",
        ),
        key(
            "floor",
            "\"0.1.0\"",
            "none",
            "Once a gateway has kept this agent it declines agents below the floor.",
        ),
        key(
            "force",
            "true or false",
            "false",
            "Try it even where this very program was taken back before. A floor holds all the same, and data in a \
             format that it cannot read is not forced on it.",
        ),
        key(
            "programs",
            "table",
            "",
            "Files by target triple, relative to `holm.toml`; {program} each, for at most {agent_targets} targets.",
        ),
    ],
};

/// `[system]`
pub const SYSTEM: Table = Table {
    title: "[system]",
    about: "A version of the gateways' whole system, from kernel to root, where they run from a card image. A gateway takes \
            the file for its board, writes it into the slot that does not run, tries it, and keeps it or comes back to the \
            one before; one that is no such image declines the app. The app brings nothing else. See *Images* in \
            `docs/agent-updates.md`.",
    keys: &[
        key(
            "version",
            "\"0.2.0\"",
            "",
            "Version that the files call themselves (`cargo xtask image --system-version`). `holm build` refuses one that \
             calls itself otherwise.",
        ),
        key(
            "floor",
            "\"0.1.0\"",
            "none",
            "Once a gateway has kept this system it declines systems below the floor.",
        ),
        key(
            "force",
            "true or false",
            "false",
            "Try it even where this very system was taken back before. A floor holds all the same.",
        ),
        key(
            "images",
            "table",
            "",
            "Files by board, relative to `holm.toml`, as `cargo xtask image` writes them beside each image (`holm-rpi4.system`); \
             {system} each, for at most {system_boards} boards, and {bundle} with all else.",
        ),
    ],
};

/// `[device-function.NAME]`
pub const DEVICE_FUNCTION: Table = Table {
    title: "[device-function.NAME]",
    about: "A function that devices run themselves: the core module of its component, compiled for the \
            interpreter of microcontrollers, signed with the app's key and offered to each of the \
            gateway's `[[devices]]` that a pattern names. Its version is the app's, of which each part \
            has to be small (below 1024.2048.2048). See *Functions on devices* in `docs/devices.md`.",
    keys: &[
        key(
            "function",
            "\"smooth\"",
            "",
            "Name of a function of this app; it needs a small `stack`.",
        ),
        key(
            "devices",
            "array of patterns",
            "",
            "Names of devices, or the beginning of names with `*` behind it (`\"press-*\"`), at most \
             {device_patterns}. No device may be meant by two functions.",
        ),
    ],
};
