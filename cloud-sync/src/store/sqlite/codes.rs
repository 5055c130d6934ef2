//! Numbers of enum values in the schema. One table gives both directions, so a new value that is
//! missing here does not compile, and a number that is missing is damage.

use sync_protocol::record::{DeadReason, DropReason, FirmwareStage, Phase, Quality};

use super::damaged;
use crate::store::StoreError;
use crate::store::deployments::Cause;
use crate::store::records::Kind;

/// A value with a number in the schema.
pub(super) trait Code: Sized {
    fn code(&self) -> i64;
    fn from_code(code: i64) -> Result<Self, StoreError>;
}

macro_rules! codes {
    ($type:ty: $($number:literal = ($($value:tt)+),)*) => {
        impl Code for $type {
            fn code(&self) -> i64 {
                match self {
                    $($($value)+ => $number,)*
                }
            }

            fn from_code(code: i64) -> Result<Self, StoreError> {
                match code {
                    $($number => Ok($($value)+),)*
                    _ => Err(damaged(format!("{code} is no {}", stringify!($type)))),
                }
            }
        }
    };
}

codes! { Kind:
    0 = (Kind::Telemetry),
    1 = (Kind::DeadLetter),
    2 = (Kind::Report),
    3 = (Kind::Gap),
    4 = (Kind::Tombstone(DropReason::Full)),
    5 = (Kind::Tombstone(DropReason::Expired)),
    6 = (Kind::Tombstone(DropReason::Purged)),
    7 = (Kind::Tombstone(DropReason::Skipped)),
    8 = (Kind::Tombstone(DropReason::Newest)),
    9 = (Kind::Tombstone(DropReason::Replaced)),
}

codes! { DeadReason:
    0 = (DeadReason::AttemptsExhausted),
    1 = (DeadReason::TooOld),
    2 = (DeadReason::Rejected),
    3 = (DeadReason::Crashed),
    4 = (DeadReason::Loop),
    5 = (DeadReason::Shed),
    6 = (DeadReason::FunctionGone),
}

// 0 and 1 were the whole truth before 2 was known.
codes! { Quality:
    0 = (Quality::Unsynced),
    1 = (Quality::Synced),
    2 = (Quality::Unknown),
}

codes! { Phase:
    0 = (Phase::Fetching),
    1 = (Phase::Verifying),
    2 = (Phase::Preparing),
    3 = (Phase::Probation),
    4 = (Phase::Live),
    5 = (Phase::Failed),
    6 = (Phase::TakenBack),
}

codes! { FirmwareStage:
    0 = (FirmwareStage::Fetching),
    1 = (FirmwareStage::Verified),
    2 = (FirmwareStage::Confirmed),
    3 = (FirmwareStage::Declined),
    4 = (FirmwareStage::TakenBack),
}

codes! { Cause:
    0 = (Cause::Deploy),
    1 = (Cause::Rollback),
    2 = (Cause::Undeploy),
}
