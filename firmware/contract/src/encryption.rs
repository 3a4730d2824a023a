//! What encrypted disks need of the kernel: the builder puts these modules into the initramfs, and `/init` loads them.

/// Modules that cryptsetup and dm-crypt ask for by name, which nobody loads for them in an initramfs. LUKS2 as cryptsetup
/// formats it: aes-xts-plain64 and SHA-256. For a cipher that OpenSSL lacks, cryptsetup asks the kernel (AF_ALG).
pub const MODULES: &[&str] = &[
    "dm_mod",
    "dm_crypt",
    "xts",
    "ecb",
    "aes_generic",
    "aesni_intel",
    "sha256_generic",
    "sha512_generic",
    "sha256_ssse3",
    "sha512_ssse3",
    "algif_skcipher",
    "algif_hash",
];

/// Modules of TPMs, which have no bus to be found on.
pub const TPM_MODULES: &[&str] = &["tpm_tis", "tpm_crb"];
