//! Stored hashes: every accepted hash can be verified within the limits of memory and time.
//!
//! The target computes the cost of a hash from the definitions of the functions, without the formulas of the code under
//! test. It counts the blocks that a function fills and the calls of its primitive.
#![no_main]

use std::sync::LazyLock;

use fuzz::SERVICE;
use libfuzzer_sys::fuzz_target;
use shared::domain::{Password, PasswordHash};
use shared::hashing::PasswordHasher;
use shared::settings::Settings;

/// The memory limit of a verification in bytes: 256 MiB, with a margin for working blocks.
const MAX_MEMORY: u128 = (256 << 20) + (1 << 18);
/// The limit of a verification's nominal time in nanoseconds.
const MAX_TIME: u128 = 5_000_000_000;
/// The nominal time in nanoseconds up to which the target verifies a hash.
const CHEAP: u128 = 2_000_000;

// Nominal times of primitives in nanoseconds, measured in a release build on a core of 2026.
const ARGON2_BLOCK: u128 = 1_050;
const SALSA20_8: u128 = 116;
const SHA256: u128 = 300;
const SHA512: u128 = 625;
const BCRYPT_ROUND: u128 = 190_000;

static HASHER: LazyLock<PasswordHasher> =
    LazyLock::new(|| PasswordHasher::from_settings(&Settings::new(|_| None)).unwrap());

fuzz_target!(|text: &str| {
    let Ok(hash) = PasswordHash::parse(text) else {
        return;
    };
    assert_eq!(hash.expose(), text);
    let (memory, time) = cost(text);
    assert!(memory <= MAX_MEMORY && time <= MAX_TIME, "{text}: {memory} bytes, {time} ns");
    if time <= CHEAP {
        let password = Password::parse("Password1234!".to_owned()).unwrap();
        let verification = SERVICE.run(HASHER.verify(&password, Some(&hash)));
        assert!(verification.is_ok(), "{text}: {verification:?}");
    }
});

/// The memory in bytes and the nominal time in nanoseconds of a verification.
fn cost(text: &str) -> (u128, u128) {
    let fields: Vec<&str> = text.split('$').collect();
    let parameters = fields.iter().flat_map(|field| field.split(','));
    let parameters: Vec<(&str, &str)> =
        parameters.filter_map(|parameter| parameter.split_once('=')).collect();
    let parameter = |name: &str| -> u128 {
        let values: Vec<&str> =
            parameters.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect();
        let [value] = values[..] else { panic!("{text}: {name}") };
        value.parse().unwrap()
    };
    let digest = fields.last().map_or(0, |digest| digest.len() * 3 / 4) as u128;
    match fields[1] {
        "2a" | "2b" | "2y" => (1 << 13, BCRYPT_ROUND << fields[2].parse::<u32>().unwrap()),
        "argon2d" | "argon2i" | "argon2id" => {
            (parameter("m") << 10, parameter("m") * parameter("t") * ARGON2_BLOCK)
        }
        "pbkdf2-sha256" => (0, pbkdf2_calls(parameter("i"), digest, 32, 48) * SHA256),
        "pbkdf2-sha512" => (0, pbkdf2_calls(parameter("i"), digest, 64, 48) * SHA512),
        "scrypt" | "firebase-scrypt" => {
            let log_n = u32::try_from(parameter("ln")).unwrap();
            let (n, r, p) = (1_u128.checked_shl(log_n).unwrap(), parameter("r"), parameter("p"));
            // RFC 7914 §6: B has p blocks of 128·r bytes, V of ROMix has N of them, and X and its copy are one each.
            let blocks = p * 128 * r;
            let memory = blocks + (n + 2) * 128 * r;
            // §5 and §4: ROMix calls BlockMix 2·N times, which calls Salsa20/8 2·r times.
            let salsa = p * 2 * n * 2 * r;
            let sha = pbkdf2_calls(1, blocks, 32, 48) + pbkdf2_calls(1, 64, 32, blocks);
            (memory, salsa * SALSA20_8 + sha * SHA256)
        }
        form => panic!("{text}: {form}"),
    }
}

/// The number of blocks that PBKDF2 compresses. The lengths of the output, the digest and the salt are in bytes.
fn pbkdf2_calls(rounds: u128, output: u128, digest: u128, salt: u128) -> u128 {
    output.div_ceil(digest) * (rounds * 2 + salt.div_ceil(64) + 2)
}
