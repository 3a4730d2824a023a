//! A cable with more than two ends: each frame goes to all other ends. A frame is a UDP packet, as on a cable of two.

use kiln_qemu::Link;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::thread;

/// The largest frame that a card sends, with segmentation left to the host (bytes).
const FRAME: usize = 1 << 17;

/// The ends for cards with these hardware addresses. What carries frames goes on until the test ends.
pub(super) fn ends(cards: &[String]) -> Vec<Link> {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let sockets: Arc<Vec<UdpSocket>> = Arc::new(cards.iter().map(|_| bind()).collect());
    // Held together, so that no two are the same; QEMU binds them anew.
    let theirs: Vec<UdpSocket> = cards.iter().map(|_| bind()).collect();
    let ports: Vec<u16> = theirs.iter().map(port).collect();
    for at in 0..cards.len() {
        let (sockets, ports) = (sockets.clone(), ports.clone());
        thread::spawn(move || {
            let mut frame = vec![0; FRAME];
            loop {
                // A machine that is off refuses packets, which is told to whoever sends the next one.
                let Ok(length) = sockets[at].recv(&mut frame) else { continue };
                for (other, port) in ports.iter().enumerate().filter(|(other, _)| *other != at) {
                    let _ = sockets[other].send_to(&frame[..length], (Ipv4Addr::LOCALHOST, *port));
                }
            }
        });
    }
    let ends = cards.iter().zip(&ports).zip(sockets.iter());
    ends.map(|((mac, local), hub)| Link { mac: mac.clone(), local: *local, remote: port(hub) }).collect()
}
