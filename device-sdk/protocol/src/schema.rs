//! Types that both sides know, told apart by their shape.
//!
//! A message is defined once, in a crate that firmware and function both depend on. Its [`SchemaId`] is a hash over its
//! name and its shape (names and types of its fields, in order), computed by the compiler. A side that was built from
//! another definition is told so by [`Error::Schema`]; where a definition says which id it must have, a change of its
//! shape does not build at all.

use core::fmt;

use postcard_schema::Schema;
use postcard_schema::key::Key;
use serde::{Deserialize, Serialize};

use crate::{Error, codec};

/// Which type a body is: a hash, for comparison only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaId(#[serde(with = "postcard::fixint::le")] pub u64);

impl SchemaId {
    /// A body that no schema describes: bytes whose meaning sender and reader agreed on otherwise.
    pub const RAW: Self = Self(0);

    /// The id of a type under a name: FNV-1a over name and shape, as `postcard-schema` computes it.
    #[must_use]
    pub const fn of<T: Schema + ?Sized>(name: &str) -> Self {
        Self(u64::from_le_bytes(Key::for_path::<T>(name).to_bytes()))
    }
}

impl fmt::Debug for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaId({:016x})", self.0)
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A type that travels in the body of an envelope or of a command. Implemented by [`crate::message!`].
pub trait Message: Schema + Serialize {
    /// Name of the type in the contract; it need not be that of the Rust type, and must not change with it.
    const NAME: &'static str;
    /// Its id.
    const ID: SchemaId;

    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        codec::body(self, out)
    }

    /// Reads one from a body that says it is of schema `found`.
    ///
    /// # Errors
    /// [`Error::Schema`] if it is another type; [`Error::Malformed`] and [`Error::Trailing`] if the body lies.
    fn decode<'a>(found: SchemaId, body: &'a [u8]) -> Result<Self, Error>
    where
        Self: Sized + Deserialize<'a>,
    {
        if found != Self::ID {
            return Err(Error::Schema { wanted: Self::ID.0, found: found.0 });
        }
        codec::whole(body)
    }
}

/// Makes a type a [`Message`] under a name of the contract.
///
/// With an id, a change of the shape is an error of the build: whoever changes it on purpose prints the new one (`holm
/// device schema`, or a test on `T::ID`), writes it here and builds both sides.
///
/// ```
/// use device_protocol::{Schema, message};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Schema)]
/// pub struct Reading {
///     pub milli_celsius: i32,
/// }
/// message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);
/// ```
///
/// The same id for another shape does not build:
///
/// ```compile_fail
/// # use device_protocol::{Schema, message};
/// # #[derive(serde::Serialize, serde::Deserialize, Schema)]
/// pub struct Reading {
///     pub celsius: f32,
/// }
/// message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);
/// ```
#[macro_export]
macro_rules! message {
    ($type:ty, $name:literal) => {
        impl $crate::Message for $type {
            const NAME: &'static str = $name;
            const ID: $crate::SchemaId = $crate::SchemaId::of::<$type>($name);
        }
    };
    ($type:ty, $name:literal, $id:literal) => {
        $crate::message!($type, $name);
        const _: () = assert!(
            <$type as $crate::Message>::ID.0 == $id,
            "the shape of this message has changed: the other side will refuse it. If that is meant, \
             write its new id here and build firmware and functions again"
        );
    };
}
