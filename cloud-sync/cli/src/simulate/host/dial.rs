//! How a virtual device reaches its gateway: a connection as its link carries it, with the TLS of microcontrollers over it
//! where the fleet has TLS.

use std::cell::Cell;

use device_protocol::provision::Provision;
use device_sdk::{Dial, tls};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use tokio::net::TcpStream;

use crate::failure::Done;
use crate::simulate::link::Valve;
use crate::simulate::shared::Shared;

/// Connects through the device's link.
pub(super) struct LinkDial<'s> {
    gateway: &'s str,
    valve: Valve,
    tls: Option<Tls<'s>>,
}

/// What TLS needs.
struct Tls<'s> {
    memory: Box<tls::Memory>,
    provision: Provision<'s>,
    random: tls::Random,
    /// Seconds since 1970, if the device knows them.
    now: &'s dyn Fn() -> Option<u64>,
    trouble: &'s Trouble,
}

/// Why gateway and device do not come together over TLS: what no fault of the link explains.
#[derive(Debug, Default)]
pub(super) struct Trouble(Cell<Option<tls::Error>>);

impl Trouble {
    fn note(&self, error: tls::Error) {
        match error {
            // Links break.
            tls::Error::Transport(_) | tls::Error::Closed | tls::Error::Cancelled => {}
            _ => self.0.set(Some(error)),
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<tls::Error> {
        self.0.get()
    }
}

impl<'s> LinkDial<'s> {
    /// Of a device of the simulation; `now` is its own clock.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn new(
        shared: &'s Shared,
        device: usize,
        now: &'s dyn Fn() -> Option<u64>,
        trouble: &'s Trouble,
    ) -> Done<Self> {
        let handle = &shared.handles[device];
        let (valve, gateway) = (Valve::new(handle.link.subscribe()), shared.gateway.as_str());
        let at = crate::device::gateway(gateway)?;
        let known = shared.credentials.provision(&handle.plan.name, at);
        let tls = match known.filter(|_| shared.credentials.trust().is_some()) {
            None => None,
            Some(provision) => Some(Tls {
                memory: Box::default(),
                provision,
                random: tls::Random::new(crate::device::random()?),
                now,
                trouble,
            }),
        };
        Ok(Self { gateway, valve, tls })
    }
}

impl Dial for LinkDial<'_> {
    type Transport<'t>
        = Line<'t>
    where
        Self: 't;
    type Error = ();

    async fn dial(&mut self) -> Result<Line<'_>, ()> {
        let stream = self.valve.connect(self.gateway).await.map_err(drop)?;
        let linked = Linked { stream, valve: self.valve.clone() };
        let Some(Tls { memory, provision, random, now, trouble }) = &mut self.tls else {
            return Ok(Line::Plain(linked));
        };
        match tls::connect(linked, &mut **memory, provision, (*now)(), random).await {
            Ok(stream) => Ok(Line::Tls(Box::new(stream), trouble)),
            Err(error) => {
                trouble.note(error);
                Err(())
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Line<'t> {
    Plain(Linked),
    Tls(Box<tls::Stream<'t, Linked>>, &'t Trouble),
}

/// It is over.
#[derive(Debug)]
pub(super) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the link broke")
    }
}

impl std::error::Error for Broken {}

impl embedded_io_async::Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }
}

impl ErrorType for Line<'_> {
    type Error = Broken;
}

impl Read for Line<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        match self {
            Self::Plain(linked) => linked.read(buffer).await,
            Self::Tls(stream, trouble) => stream.read(buffer).await.map_err(broken(trouble)),
        }
    }
}

impl Write for Line<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        match self {
            Self::Plain(linked) => linked.write(bytes).await,
            Self::Tls(stream, trouble) => stream.write(bytes).await.map_err(broken(trouble)),
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        match self {
            Self::Plain(linked) => linked.flush().await,
            Self::Tls(stream, trouble) => stream.flush().await.map_err(broken(trouble)),
        }
    }
}

fn broken(trouble: &Trouble) -> impl FnOnce(tls::Error) -> Broken {
    |error| {
        trouble.note(error);
        Broken
    }
}

/// TCP as the link of the device carries it.
#[derive(Debug)]
pub(super) struct Linked {
    stream: TcpStream,
    valve: Valve,
}

impl ErrorType for Linked {
    type Error = Broken;
}

impl Read for Linked {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        self.valve.read(&mut self.stream, buffer).await.map_err(|_| Broken)
    }
}

impl Write for Linked {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.valve.write(&mut self.stream, bytes).await.map_err(|_| Broken)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}
