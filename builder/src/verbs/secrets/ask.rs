//! Takes a value that nobody may see: from a pipe, or from a terminal that does not show it.

use crate::secrets::{MAX_VALUE, Secret};
use anyhow::{Context as _, bail};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use zeroize::Zeroizing;

/// What Ctrl-C sends where it sends no signal.
const END_OF_TEXT: u8 = 0x03;

/// Reads the value called `name` from standard input. One line loses its newline.
pub(super) fn value(name: &str) -> anyhow::Result<Secret> {
    let stdin = io::stdin();
    // Room for one byte too many, so that a value that is too long is told from one that just fits; a buffer that
    // grew would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 8));
    if stdin.is_terminal() {
        let _quiet = Quiet::begin(name)?;
        read_line(&mut bytes)?;
    } else {
        let limit = MAX_VALUE as u64 + 2;
        stdin.lock().take(limit).read_to_end(&mut bytes).context("cannot read standard input")?;
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| anyhow::anyhow!("the value is not UTF-8 text"))?;
    let text = match text.strip_suffix('\n') {
        Some(line) if !line.contains('\n') => line.strip_suffix('\r').unwrap_or(line),
        _ => text,
    };
    Ok(Secret::new(Zeroizing::new(text.to_owned())))
}

/// Byte by byte: a buffered reader would keep a copy.
fn read_line(bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut byte = [0_u8; 1];
    while bytes.len() <= MAX_VALUE {
        let count = rustix::io::read(io::stdin(), &mut byte).context("cannot read the terminal")?;
        match byte[0] {
            END_OF_TEXT => {
                let _ = writeln!(io::stderr());
                bail!("stopped: nothing was changed")
            }
            _ if count == 0 => break,
            other => bytes.push(other),
        }
        if byte[0] == b'\n' {
            break;
        }
    }
    Ok(())
}

/// The terminal shows nothing until this is dropped, and Ctrl-C comes as a byte: a signal would leave it so.
struct Quiet(Termios);

impl Quiet {
    fn begin(name: &str) -> anyhow::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin).context("cannot ask the terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.local_modes.insert(LocalModes::ECHONL);
        quiet.special_codes[SpecialCodeIndex::VEOL] = END_OF_TEXT;
        termios::tcsetattr(&stdin, OptionalActions::Flush, &quiet)
            .context("cannot keep the terminal quiet")?;
        let _ = write!(io::stderr(), "value of {name}: ");
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is no way left to say that this failed.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
