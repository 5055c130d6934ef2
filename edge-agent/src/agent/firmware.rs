//! Images for devices: the shell around [`crate::firmware`].

use std::sync::Arc;

use bytes::Bytes;
use device_protocol::update::{Stage, Want};
use edge_broker::broker::Broker;
use edge_core::id::{DeviceId, StreamId};
use edge_core::input::Input;
use edge_core::message::QoS;
use sync_protocol::Manifest;
use sync_protocol::id::Digest;
use sync_protocol::manifest::ImageKind;
use sync_protocol::record::{FirmwareStage, Report};

use super::gateway::Gateway;
use super::prepare::Prepare;
use crate::desk::{self, Told};
use crate::firmware::Do;
use crate::settings::DeviceAccount;

/// What topics to devices begin with.
const DOWN: &str = "$holm/v1/down/";

/// The core at the start: what stands retained from the lives before is known to it.
pub(super) fn begin(accounts: &[DeviceAccount], broker: &Broker) -> crate::firmware::Firmware {
    let accounts = accounts.iter().map(|account| DeviceId::new(&account.name));
    let standing = broker.retained(DOWN).filter_map(|message| {
        let (device, kind) = message.topic.as_str().strip_prefix(DOWN)?.split_once('/')?;
        let kind = ImageKind::ALL.into_iter().find(|one| one.offer_kind() == kind)?;
        Some((DeviceId::new(device), kind, message.payload.clone()))
    });
    crate::firmware::Firmware::new(accounts, standing)
}

impl Gateway {
    /// Sets what is offered right after the ledger: in the same batch.
    pub(super) fn keep_offers(&mut self) {
        let live = self.deployments.live_revisions();
        let changes = self.firmware.live(live.values().map(|revision| revision.manifest()));
        for change in changes {
            let (device, kind) = (&change.device, change.kind);
            let withdrawn = change.payload.is_empty();
            tracing::info!(target: "device", %device, kind = kind.as_str(), withdrawn, "offer changes");
            let kind = kind.offer_kind();
            self.tell_device(&change.device, kind, change.payload, QoS::AtLeastOnce, true);
        }
    }

    /// Whether a revision with images can go live beside those that are.
    pub(super) fn check_firmware(&self, new: &Manifest) -> Result<(), String> {
        let live = self.deployments.live_revisions();
        self.firmware.check(new, live.values().map(|revision| revision.manifest()))
    }

    /// A device asks for bytes of its image.
    pub(super) fn firmware_wanted(&mut self, device: &DeviceId, want: Want) {
        let todo = self.firmware.wanted(device, want, self.now.at);
        self.do_firmware(todo);
    }

    /// An image was read from the library, or could not be.
    pub(super) fn image_loaded(&mut self, digest: Digest, result: Result<Bytes, String>) {
        if let Err(error) = &result {
            tracing::error!(%digest, error, "an image that devices want cannot be read");
        }
        let todo = self.firmware.loaded(digest, result.ok(), self.now.at);
        self.do_firmware(todo);
    }

    /// Answers, and reports, that waited for their time.
    pub(super) fn tick_firmware(&mut self) {
        while let Some((device, told)) = self.desk.late_firmware(self.now) {
            self.firmware_told(&device, told);
        }
        if self.firmware.next_deadline().is_some_and(|at| at <= self.now.at) {
            let todo = self.firmware.tick(self.now.at);
            self.do_firmware(todo);
        }
    }

    fn do_firmware(&mut self, todo: Vec<Do>) {
        for one in todo {
            match one {
                Do::Send { device, payload } => {
                    self.tell_device(&device, "chunk", payload, QoS::AtMostOnce, false);
                }
                Do::Load(digest) => self.deployments.ask(Prepare::Load { digest }),
            }
        }
    }

    fn tell_device(&mut self, device: &DeviceId, kind: &str, bytes: Bytes, qos: QoS, retain: bool) {
        let topic = format!("{DOWN}{}/{kind}", device.as_str());
        if let Some(message) = desk::to_device(device, &topic, bytes, qos, retain, self.now) {
            self.route(&Arc::new(message));
        }
    }

    /// A device says how far it is: kept in its row, and told to the control plane where it is new.
    pub(super) fn firmware_told(&mut self, device: &DeviceId, mut told: Told) {
        let offered = self.firmware.offered(device, told.image);
        let offered = offered.map(|(app, kind, version)| (app.to_owned(), kind, version));
        told.offered = offered.as_ref().map(|(_, kind, version)| (*kind, *version));
        let (stage, reason) = (told.stage, told.reason.clone());
        let is_new = self.desk.firmware_told(device, told, self.now);
        let (true, Some((app, kind, version))) = (is_new, offered) else { return };
        let kind = kind.as_str();
        tracing::info!(target: "device", %device, app, kind, version, ?stage, reason, "image");
        let (device, stage) = (device.as_str().to_owned(), wire(stage));
        let report = Report::Firmware { device, app, version, stage, reason };
        let body = Bytes::from(report.to_bytes());
        self.with_core(Input::Report { stream: StreamId::URGENT, body });
    }
}

const fn wire(stage: Stage) -> FirmwareStage {
    match stage {
        Stage::Fetching => FirmwareStage::Fetching,
        Stage::Verified => FirmwareStage::Verified,
        Stage::Confirmed => FirmwareStage::Confirmed,
        Stage::Declined => FirmwareStage::Declined,
        Stage::TakenBack => FirmwareStage::TakenBack,
    }
}
