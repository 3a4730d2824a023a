//! Inputs without end, each a function of a seed and its number.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// An input that takes longer is a fault, whatever comes of it. Noise of the machine does not count: nothing takes a tenth.
const SLOW: Duration = Duration::from_secs(30);
/// KiB that a parser may take beside what was there.
const ROOM: u64 = 256 << 10;
/// Values that lengths, counts and offsets break at.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x10000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    u64::MAX >> 1,
    u64::MAX,
];

/// A parser.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Good inputs.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Makes checksums right again, so that more than the check of them is tried.
    pub(crate) mend: fn(&mut Vec<u8>),
    /// Gives it an input and looks at all that it gives back.
    pub(crate) feed: fn(&[u8]),
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// The input with this number.
fn input(target: &Target, seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
    let mut bytes = target.seeds[random.below(target.seeds.len())].clone();
    for _ in 0..=random.below(6) {
        change(&mut bytes, &mut random, &target.seeds);
    }
    (target.mend)(&mut bytes);
    bytes
}

/// One change. What tells formats apart lies at the beginning, so half of the changes are there.
fn change(bytes: &mut Vec<u8>, random: &mut Random, seeds: &[Vec<u8>]) {
    let all = bytes.len().max(1);
    let near = if random.next() & 1 == 0 { all } else { all.min(4096) };
    let (mut at, len) = (random.below(near).min(bytes.len()), 1 + random.below(64));
    // An image is mostly zeros that nobody reads.
    for _ in 0..8 {
        if bytes.get(at).is_none_or(|byte| *byte != 0) {
            break;
        }
        at = random.below(near).min(bytes.len());
    }
    let end = (at + len).min(bytes.len());
    match random.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = u8::try_from(random.next() & 0xff).unwrap(),
        2 | 3 => {
            let width = [2, 4, 8][random.below(3)];
            let at = at / width * width;
            let number = NUMBERS[random.below(NUMBERS.len())].wrapping_add(random.next() % 3).wrapping_sub(1);
            let little = number.to_le_bytes();
            let big = number.to_be_bytes();
            let value = if random.next() & 1 == 0 { &little[..width] } else { &big[8 - width..] };
            if at + width <= bytes.len() {
                bytes[at..at + width].copy_from_slice(value);
            }
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let piece = bytes[at..end].repeat(1 + random.below(8));
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len().max(1)).min(other.len());
            let piece = other[from..(from + len).min(other.len())].to_vec();
            bytes.splice(at..end, piece);
        }
        7 => {
            let word = [
                &b"\n"[..],
                b"\0",
                b"-1",
                b"99999999999999999999",
                b"\xff\xfe",
                b"/../",
                b"*a",
                b"&a ",
                b"\"",
                b"{",
                b"[",
            ];
            bytes.splice(at..at, word[random.below(word.len())].repeat(1 + random.below(40)));
        }
        _ => bytes.truncate(at),
    }
}

/// The most KiB that this process had in memory (proc(5), `VmHWM`).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap()
}

/// Feeds a parser for a while.
pub(crate) fn run(target: &Target, (seed, each): (u64, Duration)) {
    (target.seeds.iter()).for_each(|seed| (target.feed)(seed));
    let (before, began) = (peak(), Instant::now());
    let (number, over, since) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Instant::now()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
                if since.lock().unwrap().elapsed() > SLOW {
                    let number = number.load(Ordering::Relaxed);
                    eprintln!(
                        "{}: no answer in {SLOW:?}: KILN_FUZZ_SEED={seed}, input {number}",
                        target.name
                    );
                    std::process::abort();
                }
            }
        });
        while began.elapsed() < each {
            let number = number.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes = input(target, seed, number);
            *since.lock().unwrap() = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.feed)(&bytes)));
            let grown = if number % 64 == 0 { peak().saturating_sub(before) } else { 0 };
            if outcome.is_err() || grown > ROOM {
                over.store(true, Ordering::Relaxed);
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
                panic!("{}: KILN_FUZZ_SEED={seed}, input {number}, {grown} KiB more: {shown}", target.name);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    println!(
        "{:16} {:9} inputs, {:6} KiB more",
        target.name,
        number.into_inner(),
        peak().saturating_sub(before)
    );
}
