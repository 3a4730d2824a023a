//! Keys and signed releases that tests make for themselves.

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyDetails as _, Password, SigningKey, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// When all keys and signatures of tests were made.
pub(crate) const MADE: i64 = 1_700_000_000;

/// A key pair: a primary key and a subkey, both of which sign.
pub(crate) struct Signer(SignedSecretKey);

/// How a release is signed.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) by_subkey: bool,
    pub(crate) digest: HashAlgorithm,
    /// Seconds after which the signature ends.
    pub(crate) lifetime: Option<u32>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { by_subkey: true, digest: HashAlgorithm::Sha512, lifetime: None }
    }
}

fn made() -> Timestamp {
    Timestamp::from_secs(u32::try_from(MADE).unwrap())
}

impl Signer {
    /// A signer; other seeds, other keys.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, KeyType::Ed25519Legacy)
    }

    /// A signer whose primary key is RSA, which (other than Ed25519) signs weak digests, too.
    pub(crate) fn rsa(seed: u64) -> Self {
        Self::of(seed, KeyType::Rsa(2048))
    }

    fn of(seed: u64, kind: KeyType) -> Self {
        let subkey = SubkeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .created_at(made())
            .build()
            .unwrap();
        let mut builder = SecretKeyParamsBuilder::default();
        builder.key_type(kind).can_certify(true).can_sign(true).created_at(made());
        builder.primary_user_id(format!("Test key {seed} <test@example.org>")).subkey(subkey);
        Self(builder.build().unwrap().generate(StdRng::seed_from_u64(seed)).unwrap())
    }

    /// The same keys with an end, `lifetime` seconds after they were made.
    pub(crate) fn ending_after(mut self, lifetime: u32) -> Self {
        let key = &self.0.primary_key;
        let mut config =
            SignatureConfig::from_key(StdRng::seed_from_u64(0), key, SignatureType::CertPositive).unwrap();
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(true);
        config.hashed_subpackets = vec![
            Subpacket::regular(SubpacketData::SignatureCreationTime(made())).unwrap(),
            Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
            Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap(),
            Subpacket::regular(SubpacketData::KeyExpirationTime(Duration::from_secs(lifetime))).unwrap(),
        ];
        let user = &mut self.0.details.users[0];
        let public = key.public_key();
        let signature = config
            .sign_certification(key, &public, &Password::empty(), pgp::types::Tag::UserId, &user.id)
            .unwrap();
        user.signatures = vec![signature];
        self
    }

    /// The public certificate, binary.
    pub(crate) fn keyring(&self) -> Vec<u8> {
        SignedPublicKey::from(self.0.clone()).to_bytes().unwrap()
    }

    /// The public certificate, armoured.
    pub(crate) fn armored_keyring(&self) -> Vec<u8> {
        SignedPublicKey::from(self.0.clone()).to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    /// The public certificate with the back signature of its subkey taken away.
    pub(crate) fn keyring_with_unbound_subkey(&self) -> Vec<u8> {
        let mut public = SignedPublicKey::from(self.0.clone());
        let other = SignedPublicKey::from(Self::new(999).0);
        public.public_subkeys = other.public_subkeys;
        public.to_bytes().unwrap()
    }

    pub(crate) fn fingerprint(&self) -> String {
        format!("{:X}", self.0.primary_key.fingerprint())
    }

    pub(crate) fn subkey_fingerprint(&self) -> String {
        format!("{:X}", self.0.secret_subkeys[0].key.fingerprint())
    }

    /// The text as an `InRelease` file.
    pub(crate) fn sign(&self, text: &str, manner: Manner) -> Vec<u8> {
        let message = if manner.by_subkey {
            message(text, &self.0.secret_subkeys[0].key, manner)
        } else {
            message(text, &self.0.primary_key, manner)
        };
        message.to_armored_bytes(ArmorOptions::default()).unwrap()
    }
}

fn message(text: &str, key: &impl SigningKey, manner: Manner) -> CleartextSignedMessage {
    let mut config = SignatureConfig::from_key(StdRng::seed_from_u64(1), key, SignatureType::Text).unwrap();
    config.hash_alg = manner.digest;
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(made())).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    if let Some(lifetime) = manner.lifetime {
        let ends = SubpacketData::SignatureExpirationTime(Duration::from_secs(lifetime));
        config.hashed_subpackets.push(Subpacket::regular(ends).unwrap());
    }
    CleartextSignedMessage::new(text, config, key, &Password::empty()).unwrap()
}
