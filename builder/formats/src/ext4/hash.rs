//! The hash that orders names in an indexed directory: MD4 with half its rounds (directory.rst, "Hash
//! Tree Directories"; `fs/ext4/hash.c`), on bytes taken as unsigned (`s_flags` = 2).

/// `s_def_hash_version` for this hash.
pub(super) const HALF_MD4: u8 = 1;

/// Hash and minor hash of `name`; `seed` are the four words of `s_hash_seed`.
pub(super) fn half_md4(name: &[u8], seed: [u32; 4]) -> (u32, u32) {
    // The standard's initial state, for an all-zero seed (`ext4fs_dirhash`).
    let mut state = if seed == [0; 4] { [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476] } else { seed };
    let mut rest = name;
    loop {
        transform(&mut state, words(rest));
        match rest.get(32..) {
            Some(more) if !more.is_empty() => rest = more,
            _ => break,
        }
    }
    // The lowest bit says "collision goes on in the next block", and the highest value says "end".
    let hash = match state[1] & !1 {
        0xffff_fffe => 0xffff_fffc,
        hash => hash,
    };
    (hash, state[2])
}

/// Up to 32 bytes as eight words, first byte highest, the rest filled with the length in every byte.
fn words(name: &[u8]) -> [u32; 8] {
    let len = u8::try_from(name.len() & 0xFF).unwrap_or(0);
    let pad = u32::from_ne_bytes([len; 4]);
    let mut out = [pad; 8];
    for (word, chunk) in out.iter_mut().zip(name.chunks(4)) {
        for byte in chunk {
            *word = (*word << 8) | u32::from(*byte);
        }
    }
    out
}

/// One block of 32 bytes: three rounds of eight steps each.
fn transform(state: &mut [u32; 4], input: [u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), 0x5A82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ED9_EBA1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (step, at) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(input[at]).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(shifts[step % 4]), b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}
