//! Wi-Fi: the password, and wpa_supplicant's file.

use super::{Error, Vault};
use crate::cluster::Wifi;
use std::fmt::Write as _;
use std::sync::Arc;

/// The password of the network; none of an open one. What is neither a passphrase (IEEE 802.11-2020 §J.4: 8 to 63 characters
/// of ASCII) nor a key (64 hexadecimal digits) is refused, without showing it.
pub(super) fn password(wifi: &Wifi, vault: &Arc<dyn Vault>) -> Result<Option<String>, Error> {
    let Some(secret) = &wifi.password else { return Ok(None) };
    let failed = |reason: String| Error::Wifi { ssid: wifi.ssid.clone(), reason };
    let text = vault.reveal(secret).map_err(failed)?;
    let printable = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if is_key(&text) || (8..=63).contains(&text.len()) && printable {
        return Ok(Some(text));
    }
    Err(failed("a password has 8 to 63 printable ASCII characters, or 64 hexadecimal digits".to_owned()))
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// What `wpa_supplicant@<interface>.service` reads (wpa_supplicant.conf(5)).
pub(super) fn supplicant(wifi: &Wifi, password: Option<&str>) -> String {
    let mut text = String::from("ctrl_interface=/run/wpa_supplicant\n");
    // Writing to a string does not fail.
    if let Some(country) = &wifi.country {
        let _ = writeln!(text, "country={country}");
    }
    // In hexadecimal digits, whatever characters it is made of.
    let ssid: String = wifi.ssid.bytes().map(|byte| format!("{byte:02x}")).collect();
    let _ = write!(text, "network={{\n\tssid={ssid}\n\tscan_ssid=1\n");
    match password {
        None => text.push_str("\tkey_mgmt=NONE\n"),
        Some(key) => {
            text.push_str("\tkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n\tieee80211w=1\n");
            // A quoted text ends at the line's last quote; what is in between is taken as it is.
            let key = if is_key(key) { key.to_owned() } else { format!("\"{key}\"") };
            let _ = writeln!(text, "\tpsk={key}");
        }
    }
    text + "}\n"
}

/// The unit that serves the card; systemd reads `-` in an instance as `/` (systemd.unit(5), String Escaping).
pub(super) fn unit(wifi: &Wifi) -> String {
    format!("wpa_supplicant@{}.service", wifi.interface.replace('-', "\\x2d"))
}
