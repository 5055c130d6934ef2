//! What Holm is built for: the one table of targets, with the budget of each.

use crate::setup::Part;

/// Oldest glibc that a build for it starts with: RHEL 8, Debian 10 and all that came after.
pub(crate) const GLIBC_FLOOR: (u32, u32) = (2, 28);

/// A target of the agent.
#[derive(Debug)]
pub(crate) struct Target {
    /// As rustc names it.
    pub(crate) triple: &'static str,
    /// How it is built, or why it is not.
    pub(crate) route: Route,
    /// What runs it on another machine.
    pub(crate) guest: Guest,
    /// What `uname -m` says there.
    pub(crate) machine: &'static str,
    /// Bytes of the stripped program; more fails the build.
    pub(crate) budget: u64,
    /// Debian's name of the architecture; empty: there is no .deb of it.
    pub(crate) deb: &'static str,
    /// OCI's name of it; empty: it is not in the container image, which has no libc.
    pub(crate) oci: &'static str,
}

/// How a target is built.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    /// rustc brings libc and linker; the few parts in C and assembler are compiled by this program.
    /// They need nothing of a libc, so its being one for glibc does no harm.
    Static {
        /// The C compiler.
        cc: &'static str,
        /// What has it.
        parts: &'static [Part],
    },
    /// Zig compiles and links against the glibc of [`GLIBC_FLOOR`]. A Debian cross compiler would
    /// link against its own glibc: on Debian 12 the agent then needs GLIBC_2.34.
    Zig,
    /// Not built.
    Untested(&'static str),
}

/// What runs a target's program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guest {
    /// This machine, where it is one of this kind.
    Host,
    /// QEMU's user mode.
    Qemu {
        /// The emulator.
        program: &'static str,
        /// Folder with the shared libraries of the target; empty: it needs none.
        libraries: &'static str,
        /// Bits of address that it gives a program; `None`: as many as there are. Kernels of gateways are built for
        /// 39 often, which is the least.
        address_bits: Option<u32>,
        /// ELF class, data, and machine: what the kernel knows such a program by.
        elf: Elf,
        /// What has them.
        parts: &'static [Part],
    },
}

/// What tells programs of one machine from those of others in an ELF header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// 1: 32 bits, 2: 64 bits.
    pub(crate) class: u8,
    /// `e_machine`.
    pub(crate) machine: u8,
}

const FILE: Part = Part { program: "file", package: "file", suite: "targets" };
const UNSHARE: Part = Part { program: "unshare", package: "util-linux", suite: "targets" };
const CC: Part = Part { program: "cc", package: "gcc", suite: "targets" };
const CC_ARM64: Part =
    Part { program: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu", suite: "targets" };
/// Headers: `--no-install-recommends` leaves them out.
const LIBC_ARM64: Part = Part {
    program: "/usr/aarch64-linux-gnu/include/string.h",
    package: "libc6-dev-arm64-cross",
    suite: "targets",
};

const QEMU_ARM64: Part =
    Part { program: "qemu-aarch64-static", package: "qemu-user-static", suite: "targets" };
const QEMU_ARM: Part =
    Part { program: "qemu-arm-static", package: "qemu-user-static", suite: "targets" };
const QEMU_RISCV64: Part =
    Part { program: "qemu-riscv64-static", package: "qemu-user-static", suite: "targets" };
const GLIBC_ARM64: Part = Part {
    program: "/usr/aarch64-linux-gnu/lib/libc.so.6",
    package: "libc6-arm64-cross",
    suite: "targets",
};
const GLIBC_ARM: Part = Part {
    program: "/usr/arm-linux-gnueabihf/lib/libc.so.6",
    package: "libc6-armhf-cross",
    suite: "targets",
};
const GLIBC_RISCV64: Part = Part {
    program: "/usr/riscv64-linux-gnu/lib/libc.so.6",
    package: "libc6-riscv64-cross",
    suite: "targets",
};

const MIB: u64 = 1 << 20;
const ARM64: Elf = Elf { class: 2, machine: 0xb7 };
const ARM: Elf = Elf { class: 1, machine: 0x28 };
const RISCV64: Elf = Elf { class: 2, machine: 0xf3 };

const NO_TOOLCHAIN: &str = "toolchain not available where this was written";

/// All targets, in the order of the table.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        triple: "x86_64-unknown-linux-musl",
        route: Route::Static { cc: "cc", parts: &[CC, FILE] },
        guest: Guest::Host,
        machine: "x86_64",
        budget: 16 * MIB,
        deb: "amd64",
        oci: "amd64",
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        route: Route::Static { cc: "aarch64-linux-gnu-gcc", parts: &[CC_ARM64, LIBC_ARM64, FILE] },
        guest: Guest::Qemu {
            program: "qemu-aarch64-static",
            libraries: "",
            address_bits: Some(39),
            elf: ARM64,
            parts: &[QEMU_ARM64, UNSHARE],
        },
        machine: "aarch64",
        budget: 14 * MIB,
        deb: "arm64",
        oci: "arm64",
    },
    Target {
        triple: "aarch64-unknown-linux-gnu",
        route: Route::Zig,
        guest: Guest::Qemu {
            program: "qemu-aarch64-static",
            libraries: "/usr/aarch64-linux-gnu/lib",
            address_bits: None,
            elf: ARM64,
            parts: &[QEMU_ARM64, GLIBC_ARM64, UNSHARE],
        },
        machine: "aarch64",
        budget: 14 * MIB,
        deb: "",
        oci: "",
    },
    Target {
        triple: "armv7-unknown-linux-gnueabihf",
        route: Route::Zig,
        guest: Guest::Qemu {
            program: "qemu-arm-static",
            libraries: "/usr/arm-linux-gnueabihf/lib",
            address_bits: None,
            elf: ARM,
            parts: &[QEMU_ARM, GLIBC_ARM, UNSHARE],
        },
        machine: "armv7l",
        budget: 12 * MIB,
        deb: "armhf",
        oci: "",
    },
    Target {
        triple: "riscv64gc-unknown-linux-gnu",
        route: Route::Zig,
        guest: Guest::Qemu {
            program: "qemu-riscv64-static",
            libraries: "/usr/riscv64-linux-gnu/lib",
            address_bits: None,
            elf: RISCV64,
            parts: &[QEMU_RISCV64, GLIBC_RISCV64, UNSHARE],
        },
        machine: "riscv64",
        budget: 13 * MIB,
        deb: "",
        oci: "",
    },
    untested("arm-unknown-linux-musleabihf", "armv6l"),
    untested("armv7-unknown-linux-musleabihf", "armv7l"),
    untested("riscv64gc-unknown-linux-musl", "riscv64"),
];

const fn untested(triple: &'static str, machine: &'static str) -> Target {
    let route = Route::Untested(NO_TOOLCHAIN);
    Target { triple, route, guest: Guest::Host, machine, budget: 0, deb: "", oci: "" }
}

impl Target {
    /// Whether its program is loaded by glibc of the system.
    pub(crate) fn needs_glibc(&self) -> bool {
        self.triple.contains("-gnu")
    }

    /// Programs and files that its build needs.
    pub(crate) fn build_parts(&self) -> &'static [Part] {
        match self.route {
            Route::Static { parts, .. } => parts,
            Route::Zig => &[FILE, PYTHON],
            Route::Untested(_) => &[],
        }
    }

    /// Programs and files that running it needs.
    pub(crate) fn run_parts(&self) -> &'static [Part] {
        match self.guest {
            Guest::Host => &[],
            Guest::Qemu { parts, .. } => parts,
        }
    }
}

/// Zig comes as a package of Python.
const PYTHON: Part = Part { program: "python3", package: "python3-venv", suite: "targets" };

/// The target of this name.
pub(crate) fn named(triple: &str) -> anyhow::Result<&'static Target> {
    TARGETS.iter().find(|target| target.triple == triple).ok_or_else(|| {
        let all: Vec<_> = TARGETS.iter().map(|target| target.triple).collect();
        anyhow::anyhow!("no target {triple}; there are {}", all.join(", "))
    })
}
