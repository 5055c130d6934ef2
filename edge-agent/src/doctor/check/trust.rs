//! Identity, control plane and certificates.

use crate::doctor::Finding;
use crate::doctor::facts::{Certificate, ControlPlane, Identity, Trouble};

const DAY_S: i64 = 86_400;
/// A certificate that ends sooner is worth a word.
const SOON_S: i64 = 30 * DAY_S;
/// A gateway's certificate is good for a renewal for so long after its end (docs/time.md).
const LATE_S: i64 = 365 * DAY_S;

/// What cannot be read may be all right.
pub(super) const AS_AGENT: &str = "run the doctor as the agent's user, or as root";

pub(super) fn identity(identity: &Identity, configured: Option<&str>) -> Finding {
    match identity {
        Identity::None => Finding::ok("identity", "not enrolled: it works without a control plane"),
        Identity::Bad(Trouble::Hidden(why)) => Finding::warning("identity", why, AS_AGENT),
        Identity::Bad(Trouble::Wrong(why)) => {
            let mend = "`holm gateway add NAME`, then `edge-agent enroll TOKEN` here; data stay";
            Finding::fault("identity", why, mend)
        }
        Identity::Enrolled(name) if configured != Some(name.as_str()) => {
            let configured = configured.unwrap_or_default();
            let what = format!("enrolled as {name:?}, and the settings name {configured:?}");
            let mend = format!("set `name = {name:?}`, or enrol under the other name");
            Finding::fault("identity", what, mend)
        }
        Identity::Enrolled(name) => Finding::ok("identity", format!("enrolled as {name}")),
    }
}

/// Its name, and whether it can be reached.
pub(super) fn control_plane(plane: &ControlPlane) -> Vec<Finding> {
    let ControlPlane { endpoint, proxy, .. } = plane;
    // No way that could be tried.
    if let (Some(Err(why)), Ok([])) = (&plane.reached, plane.addresses.as_deref()) {
        let mend = "correct it here and where the agent is started (`systemctl edit edge-agent`)";
        return vec![Finding::fault("control-plane", why, mend)];
    }
    // Through a proxy nobody here looks for the control plane's own address.
    let dialled = proxy.as_ref().map_or(endpoint.clone(), |proxy| format!("the proxy {proxy}"));
    let addresses = match &plane.addresses {
        Ok(addresses) if !addresses.is_empty() => addresses,
        Ok(_) => {
            let what = format!("{dialled}: its name has no address");
            return vec![Finding::fault("dns", what, NAME)];
        }
        Err(why) => return vec![Finding::fault("dns", format!("{dialled}: {why}"), NAME)],
    };
    let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let mut findings = vec![Finding::ok("dns", format!("{dialled} is {}", shown.join(", ")))];
    match &plane.reached {
        None => {}
        Some(Ok(())) => {
            let through = proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}"));
            let what = format!("{endpoint} takes connections{}", through.unwrap_or_default());
            findings.push(Finding::ok("control-plane", what));
        }
        Some(Err(why)) if proxy.is_some() => {
            let mend = "is `proxy` in [uplink] of agent.toml (or HTTPS_PROXY) right, and does that proxy \
                        allow CONNECT to the control plane? Records wait here meanwhile";
            findings.push(Finding::warning("control-plane", why, mend));
        }
        Some(Err(why)) => {
            let mend = "does `cloud-sync serve` run there, and does a firewall let this port through? \
                        Records wait here meanwhile";
            findings.push(Finding::warning("control-plane", why, mend));
        }
    }
    findings
}

const NAME: &str =
    "is there a network, and a name server (`/etc/resolv.conf`) that knows this name?";

pub(super) fn certificate(certificate: &Certificate, now_unix_s: u64) -> Finding {
    const CHECK: &str = "tls";
    let of = &certificate.of;
    let validity = match &certificate.validity {
        Ok(validity) => *validity,
        Err(Trouble::Hidden(why)) => {
            return Finding::warning(CHECK, format!("{of}: {why}"), AS_AGENT);
        }
        Err(Trouble::Wrong(why)) => {
            let mend = if certificate.renews_itself {
                "enrol anew: `holm gateway add NAME`, then `edge-agent enroll TOKEN`"
            } else {
                "put a certificate chain and the key that belongs to it at the paths in [[listeners]]"
            };
            return Finding::fault(CHECK, format!("{of}: {why}"), mend);
        }
    };
    let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    let (from, left) = (validity.from_unix_s, validity.to_unix_s.saturating_sub(now));
    let days = left / DAY_S;
    if from > now {
        let what = format!("{of}: valid in {} days only", (from - now) / DAY_S + 1);
        let mend = "set the clock if it is wrong; else wait, or take another certificate";
        return Finding::warning(CHECK, what, mend);
    }
    let itself = certificate.renews_itself;
    match left {
        i64::MIN..0 if itself && left > -LATE_S => {
            let what = format!("{of}: ended {} days ago", -days);
            let mend = "let the gateway reach its control plane, which renews it at once";
            Finding::warning(CHECK, what, mend)
        }
        i64::MIN..0 if itself => {
            let what = format!("{of}: ended {} days ago, too long for a renewal", -days);
            let mend = "enrol anew: `holm gateway add NAME`, then `edge-agent enroll TOKEN`";
            Finding::fault(CHECK, what, mend)
        }
        i64::MIN..0 => {
            let what = format!("{of}: ended {} days ago, so devices refuse it", -days);
            Finding::fault(CHECK, what, "put a new certificate there and restart the agent")
        }
        0..SOON_S if itself => {
            let what = format!("{of}: ends in {days} days");
            let mend = "let the gateway reach its control plane, which renews it at once; see `dns` and `control-plane`";
            Finding::warning(CHECK, what, mend)
        }
        0..SOON_S => {
            let what = format!("{of}: ends in {days} days");
            Finding::warning(CHECK, what, "put a new certificate there and restart the agent")
        }
        SOON_S.. => Finding::ok(CHECK, format!("{of}: good for {days} days")),
    }
}
