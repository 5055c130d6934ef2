//! The clients of the story.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use edge_core::topic::Topic;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::report::{Latency, Report, Storm};
use super::{PASSWORD, Plan, machine, observer};
use crate::mqtt::Login;
use crate::process::pss_kib;
use crate::swarm::{self, Idle, Link, Published, Sample, spread};
use crate::watchers::Watchers;

/// Idle connections that are being made at once.
const CONNECTING_MAX: usize = 100;
/// Of the idle, who ping as often: they have to be heard within one and a half times this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Of the others, who may wait as long for each other.
const KEEP_ALIVE_BUSY: Duration = Duration::from_secs(300);
/// Interval of each observer's publishes.
const OBSERVER_EVERY: Duration = Duration::from_millis(100);

/// A storm is watched for at least so long.
const OBSERVED_MIN: Duration = Duration::from_secs(1);

/// All clients of the story.
pub(super) struct Crowd<'a> {
    pub(super) plan: &'a Plan,
    /// Address and CA of every client.
    pub(super) base: Login,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Process id of the agent.
    pub(super) agent: u32,
    pub(super) tell: &'a dyn Fn(&str),
}

impl Crowd<'_> {
    fn login(&self, client_id: &str, password: bool) -> Login {
        let keep_alive = if password { KEEP_ALIVE_BUSY } else { KEEP_ALIVE };
        let keep_alive_s = u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX);
        let password = password.then(|| PASSWORD.to_owned());
        Login { client_id: client_id.to_owned(), password, keep_alive_s, ..self.base.clone() }
    }

    /// The observers, publishing.
    pub(super) fn observe(&self) -> Result<Watchers> {
        let logins = (0..self.plan.observers).map(|n| self.login(&observer(n), true));
        Watchers::start(logins.collect(), OBSERVER_EVERY)
    }

    pub(super) async fn story(&self) -> Result<Report> {
        let mut report = Report { tls: self.plan.tls, ..Report::default() };
        let (stop, stopped) = watch::channel(false);
        report.idle.pss_before_kib = pss_kib(self.agent)?;
        (self.tell)(&format!("{} idle clients connect", self.plan.idle));
        let begin = Instant::now();
        let idle = self.connect_idle(&stopped, &mut report).await?;
        report.idle.connect_s = begin.elapsed().as_secs_f64();

        (self.tell)(&format!("idle for {:?}", self.plan.hold));
        report.quiet = window(sleep(self.plan.hold)).await.1;
        report.idle.pss_after_kib = pss_kib(self.agent)?;

        (self.tell)(&format!("{} clients with passwords come at once", self.plan.busy));
        let links = self.storm("argon2 for each", &mut report).await;
        (self.tell)(&format!("{} of them publish for {:?}", links.len(), self.plan.hold));
        let links = self.busy(links, &mut report).await?;
        // Dropped without a word, as by a switch that lost its power.
        drop(links);
        (self.tell)("all of them lose their connections and come back at once");
        let links = self.storm("remembered", &mut report).await;
        drop(links);

        let _ = stop.send(true);
        report.idle.held_s = begin.elapsed().as_secs_f64();
        for seen in idle {
            report.idle.add(&seen.await?);
        }
        report.pss_end_kib = pss_kib(self.agent)?;
        Ok(report)
    }

    async fn connect_idle(
        &self,
        stop: &watch::Receiver<bool>,
        report: &mut Report,
    ) -> Result<Vec<JoinHandle<Idle>>> {
        let places = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut connecting = Vec::with_capacity(self.plan.idle);
        for n in 0..self.plan.idle {
            let (login, tls) = (self.login(&format!("idle-{n}"), false), self.tls.clone());
            let place = Arc::clone(&places).acquire_owned().await?;
            connecting.push(tokio::spawn(async move {
                let link = Link::connect(&login, tls).await;
                drop(place);
                link
            }));
        }
        let mut idle = Vec::with_capacity(self.plan.idle);
        for (n, link) in connecting.into_iter().enumerate() {
            match link.await? {
                Ok(link) => {
                    let first = spread(KEEP_ALIVE, n, self.plan.idle);
                    idle.push(tokio::spawn(swarm::idle(link, first, KEEP_ALIVE, stop.clone())));
                }
                Err(error) => report.idle.lost.note(format!("{error:#}")),
            }
        }
        report.idle.connections = idle.len();
        Ok(idle)
    }

    async fn storm(&self, name: &'static str, report: &mut Report) -> Vec<(usize, Link)> {
        let mut storm = Storm { name, clients: self.plan.busy, ..Storm::default() };
        let (links, during) = window(async {
            let begin = Instant::now();
            let connecting: Vec<_> = (0..self.plan.busy)
                .map(|n| {
                    let (login, tls) = (self.login(&machine(n), true), self.tls.clone());
                    tokio::spawn(async move { (n, Link::connect(&login, tls).await) })
                })
                .collect();
            let mut links = Vec::with_capacity(connecting.len());
            for connected in connecting {
                match connected.await {
                    Ok((n, Ok(link))) => links.push((n, link)),
                    Ok((n, Err(error))) => storm.note(format!("{}: {error:#}", machine(n))),
                    Err(error) => storm.note(error.to_string()),
                }
            }
            storm.took_s = begin.elapsed().as_secs_f64();
            sleep_until(begin + OBSERVED_MIN).await;
            links
        })
        .await;
        storm.connected = links.len();
        storm.window = during;
        report.storms.push(storm);
        links
    }

    async fn busy(&self, links: Vec<(usize, Link)>, report: &mut Report) -> Result<Vec<Link>> {
        let (stop, stopped) = watch::channel(false);
        let count = links.len().max(1);
        report.busy.connections = links.len();
        let mut publishing = Vec::with_capacity(count);
        for (n, link) in links {
            let topic = Topic::new(&format!("sensors/{}", machine(n)))?;
            let (every, stop) = (self.plan.busy_every, stopped.clone());
            publishing.push(tokio::spawn(swarm::publish(
                link,
                topic,
                spread(every, n, count),
                every,
                stop,
            )));
        }
        sleep(self.plan.hold).await;
        let _ = stop.send(true);
        let (mut links, mut took) = (Vec::with_capacity(count), Vec::new());
        for publishing in publishing {
            let (seen, link) = publishing.await?;
            report.busy.add(&seen);
            took.extend(seen.samples.iter().map(|sample| sample.took));
            links.extend(link);
        }
        report.busy.latency = Latency::of(took);
        Ok(links)
    }
}

/// The moments between which something happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    from: Instant,
    to: Instant,
}

async fn window<T>(happening: impl Future<Output = T>) -> (T, Option<Window>) {
    let from = Instant::now();
    let what = happening.await;
    (what, Some(Window { from, to: Instant::now() }))
}

impl Window {
    pub(super) fn latency(self, seen: &[Published]) -> Latency {
        let inside = |sample: &&Sample| (self.from..self.to).contains(&sample.due);
        let samples = seen.iter().flat_map(|seen| seen.samples.iter().filter(inside));
        Latency::of(samples.map(|sample| sample.took).collect())
    }
}
