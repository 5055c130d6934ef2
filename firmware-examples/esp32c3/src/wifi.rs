//! Wi-Fi: the network on it, joining and coming back.

use board_common::dial::SOCKETS;
use board_common::settings::Settings;
use embassy_executor::Spawner;
use embassy_net::{Config, DhcpConfig, Runner, Stack, StackResources};
use embassy_time::Timer;
use esp_hal::peripherals::WIFI;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    self, AuthenticationMethod, ControllerConfig, Interface, WifiController, WifiError,
};
use static_cell::StaticCell;

/// Wait after a network did not let the device in, in milliseconds.
const REJOIN_MS: u64 = 5_000;

#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Interface<'static>>) -> ! {
    runner.run().await
}

/// Starts the radio and the network on it, and joins it again and again.
///
/// # Errors
/// The radio does not start: too little heap, or settings that it does not take.
pub(crate) fn start(
    spawner: Spawner,
    radio: WIFI<'static>,
    settings: &Settings<'static>,
    ssid: &'static str,
    seed: u64,
) -> Result<Stack<'static>, WifiError> {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let station = StationConfig::default().with_ssid(ssid);
    let station = match settings.wifi_password {
        Some(password) => station.with_password(password.into()),
        None => station.with_auth_method(AuthenticationMethod::None),
    };
    let config = ControllerConfig::default().with_initial_config(wifi::Config::Station(station));
    let (controller, interfaces) = wifi::new(radio, config)?;
    let config = Config::dhcpv4(DhcpConfig::default());
    let resources = RESOURCES.init_with(StackResources::new);
    let (stack, runner) = embassy_net::new(interfaces.station, config, resources, seed);
    spawner.spawn(run(runner).expect("invariant: spawned once"));
    spawner.spawn(join(controller, ssid).expect("invariant: spawned once"));
    Ok(stack)
}

#[embassy_executor::task]
async fn join(mut controller: WifiController<'static>, ssid: &'static str) -> ! {
    loop {
        match controller.connect_async().await {
            Ok(_) => {
                defmt::info!("joined {=str}", ssid);
                let lost = controller.wait_for_disconnect_async().await;
                defmt::warn!("lost {=str}: {}", ssid, lost);
            }
            Err(error) => {
                defmt::warn!(
                    "{=str} does not let it in: {}; name and password right?",
                    ssid,
                    error
                );
            }
        }
        Timer::after_millis(REJOIN_MS).await;
    }
}
