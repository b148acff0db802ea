//! Stored hashes: what is taken costs no more than its bounds, and can be verified.
#![no_main]

use std::sync::LazyLock;

use fuzz::SERVICE;
use libfuzzer_sys::fuzz_target;
use shared::config::Environment;
use shared::domain::{Password, PasswordHash, Scheme};
use shared::hashing::PasswordHasher;

static HASHER: LazyLock<PasswordHasher> =
    LazyLock::new(|| PasswordHasher::from_environment(&Environment::new(|_| None)).unwrap());

fuzz_target!(|text: &str| {
    let Some(hash) = PasswordHash::parse(text) else {
        return;
    };
    assert_eq!(hash.expose(), text);
    let fields: Vec<&str> = text.split('$').collect();
    let parameter = |name: &str, default: u64| {
        let parameters = fields.iter().flat_map(|field| field.split(','));
        let mut values = parameters.filter_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='));
        values.next().map_or(default, |value| value.parse().unwrap())
    };
    let cheap = match hash.scheme() {
        Scheme::Argon2 => {
            let (memory, passes, lanes) = (parameter("m", 19_456), parameter("t", 2), parameter("p", 1));
            assert!(memory <= 256 * 1024 && passes <= 16 && lanes <= 16, "{text}");
            memory * passes <= 512
        }
        Scheme::Pbkdf2 => {
            let rounds = parameter("i", 600_000);
            assert!(rounds <= 2_000_000, "{text}");
            rounds <= 2000
        }
        Scheme::Scrypt => {
            let block = 128 * (1 << parameter("ln", 17)) * parameter("r", 8);
            let work = block * parameter("p", 1);
            assert!(block <= 256 << 20 && work <= 1 << 30, "{text}");
            work <= 1 << 20
        }
        Scheme::Bcrypt => {
            let cost: u32 = fields[2].parse().unwrap();
            assert!((4..=14).contains(&cost), "{text}");
            cost == 4
        }
    };
    if cheap {
        let password = Password::parse("Password1234!".to_owned()).unwrap();
        let verdict = SERVICE.run(HASHER.verify(&password, Some(&hash)));
        assert!(verdict.is_ok(), "{text}: {verdict:?}");
    }
});
