//! The end of a boot that can't go on: a screen that helps, and a reboot. PID 1 must never return: the kernel
//! would panic, and whoever comes to the machine would find a register dump.

use crate::console::Console;
use crate::failure::Failure;
use crate::{kernel, sys};
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long the screen stays before the machine tries again.
const REBOOT_AFTER: Duration = Duration::from_secs(300);
/// How often the countdown is written.
const TICK: Duration = Duration::from_secs(10);

/// Makes a panic of the main thread end like every other failure.
pub(crate) fn on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let mut console = Console::early();
        console.open_all(Path::new(crate::SYSFS), false);
        stop(&mut console, &Failure::Panic(info.to_string()));
    }));
}

/// Shows the failure, waits for Enter or for the time to run out, and reboots.
pub(crate) fn stop(console: &mut Console, failure: &Failure) -> ! {
    kernel::hush();
    console.print(&screen(failure));
    let limit = (!console.is_debug()).then_some(REBOOT_AFTER);
    hold(console, limit)
}

/// Waits for Enter, or for the time to run out where there is a limit, and reboots.
pub(crate) fn hold(console: &mut Console, limit: Option<Duration>) -> ! {
    let enter = console.enter_pressed();
    let start = Instant::now();
    loop {
        let left = limit.map_or(TICK, |limit| limit.saturating_sub(start.elapsed()));
        if limit.is_none() {
            console.print("\r  Press Enter to reboot.   ");
        } else if left.is_zero() {
            break;
        } else {
            console
                .print(&format!("\r  Press Enter to reboot. Reboot by itself in {} s.   ", left.as_secs()));
        }
        match enter.recv_timeout(TICK.min(left.max(Duration::from_millis(10)))) {
            Ok(()) => break,
            Err(RecvTimeoutError::Timeout) => {}
            // No console can be read: only the time is left.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
    }
    console.print("\nkiln: rebooting\n");
    loop {
        sys::reboot();
        std::thread::sleep(TICK);
    }
}

/// The whole screen. ECMA-48: ED 2 clears it, CUP moves to its top.
fn screen(failure: &Failure) -> String {
    let indent = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let mut text = String::from("\x1b[2J\x1b[H\nkiln: this machine can't start\n\n");
    text.push_str(&indent(&failure.to_string()));
    if let Some(found) = failure.found() {
        text.push_str("\n  found:\n");
        text.push_str(&found);
    }
    text.push('\n');
    text.push_str(&indent(&failure.remedy()));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::screen;
    use crate::disks::tests::{kiln_disk, plain_disk};
    use crate::failure::Failure;

    #[test]
    fn the_screen_says_what_where_and_what_to_do() {
        let disks = vec![kiln_disk("sda", 1), plain_disk("sdb")];
        let esp = kiln_disk("x", 2).partitions[0].guid;
        let text = screen(&Failure::NoDisk { esp, seconds: 60, disks });
        let wanted = [
            "kiln: this machine can't start",
            "looked for: ESP 00000000-0000-0002-0000-000000000001, for 60 s",
            "  sda (10.0 GiB, QEMU HARDDISK)",
            "    sda3        512.0 MiB root   root-a    00000000-0000-0001-0000-000000000003",
            "  sdb (10.0 GiB, QEMU HARDDISK): no GUID partition table",
            "kiln.disk_timeout=180",
        ];
        for wanted in wanted {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }
}
