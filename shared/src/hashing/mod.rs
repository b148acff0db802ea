//! Hashing and verifying passwords: Argon2id for every new hash, and the imported forms until their user signs in.

mod argon2;
mod imported;

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use ::argon2::{Algorithm, Params, Version};
use argon2_rust::Hasher;
use tokio::sync::Semaphore;

use self::argon2::{Arenas, decoy, hash_argon2id};
use self::imported::is_right;
use crate::domain::{ApprovedPassword, Form, Function, Password, PasswordHash};
use crate::failure::Failure;
use crate::settings::{ConfigError, Settings};
use crate::telemetry;

/// Hashes passwords with the deployment's Argon2id parameters.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    params: Params,
    /// Verified when the username is unknown, so that both cases take the same time.
    decoy: Arc<PasswordHash>,
    /// Limits concurrent hashes to the number of cores, because each occupies a core and its memory. `None` if requests
    /// do not share the process.
    cores: Option<Arc<Semaphore>>,
    arenas: Arenas,
}

/// The result of comparing a password with a stored hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verification {
    /// The password is correct.
    Correct {
        /// True if the stored hash has another form than new ones have.
        outdated: bool,
    },
    /// The password is incorrect, or there is no hash to compare it with.
    Incorrect,
}

impl PasswordHasher {
    /// A hasher with the parameters of `ARGON2_MEMORY_KIB`, `ARGON2_ITERATIONS` and `ARGON2_PARALLELISM`. Their
    /// defaults are OWASP's (Password Storage Cheat Sheet): m=19456 KiB, t=2, p=1.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let memory = settings.number("ARGON2_MEMORY_KIB", 19_456, 8 * 16..=256 * 1024)?;
        let iterations = settings.number("ARGON2_ITERATIONS", 2, 1..=16)?;
        let parallelism = settings.number("ARGON2_PARALLELISM", 1, 1..=16)?;
        let params = Params::new(memory, iterations, parallelism, Some(Params::DEFAULT_OUTPUT_LEN))
            .map_err(|error| ConfigError::new("ARGON2_MEMORY_KIB", &format!("is refused: {error}")))?;
        let decoy = decoy(&params)
            .ok_or_else(|| ConfigError::new("ARGON2_MEMORY_KIB", "is out of the bounds of stored hashes"))?;
        // Set on Managed Instances; elsewhere there is one request at a time.
        let is_shared = settings.number("AWS_LAMBDA_MAX_CONCURRENCY", 1, 0..=u32::MAX)? > 1;
        let cores = || Arc::new(Semaphore::new(available_parallelism().map_or(1, Into::into)));
        let cores = is_shared.then(cores);
        Ok(Self { params, decoy: Arc::new(decoy), cores, arenas: Arenas::default() })
    }

    /// Hashes a new password with a salt from the operating system's random source.
    pub async fn hash(&self, password: &ApprovedPassword) -> Result<PasswordHash, Failure> {
        self.hash_password(password.as_password()).await
    }

    /// Hashes a password that needs no approval: one that was found right, to replace an outdated hash of it, or a random
    /// one.
    pub async fn rehash(&self, password: &Password) -> Result<PasswordHash, Failure> {
        self.hash_password(password).await
    }

    /// Compares `password` with `hash`, or with a decoy if there is none.
    pub async fn verify(
        &self,
        password: &Password,
        hash: Option<&PasswordHash>,
    ) -> Result<Verification, Failure> {
        let stored = hash.unwrap_or(&self.decoy).clone();
        let (password, params) = (password.clone(), self.params.clone());
        self.run(move |arena| {
            let right = is_right(password.expose(), &stored, arena)?;
            let outdated = is_outdated(&stored, &params);
            Ok(if right { Verification::Correct { outdated } } else { Verification::Incorrect })
        })
        .await
    }

    /// Returns whether `hash` has another form than new ones have, and so is replaced when its user signs in.
    #[must_use]
    pub fn is_outdated(&self, hash: &PasswordHash) -> bool {
        is_outdated(hash, &self.params)
    }

    async fn hash_password(&self, password: &Password) -> Result<PasswordHash, Failure> {
        let (password, params) = (password.clone(), self.params.clone());
        self.run(move |arena| {
            let hash = hash_argon2id(password.expose(), &params, arena);
            let hash = hash.map_err(|error| Failure::Defect(format!("hashing: {error}")))?;
            PasswordHash::parse(&hash.to_string())
                .map_err(|error| Failure::Defect(format!("a new password hash {error}")))
        })
        .await
    }

    /// Runs `work` and measures it, on another thread if requests share this process.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Hasher) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (arenas, kept_blocks) = (self.arenas.clone(), self.params.block_count());
        let measured = move || {
            let start = Instant::now();
            let mut arena = arenas.take();
            let done = work(&mut arena);
            // A stored hash may have asked for more than any new one will.
            if arena.reserved_blocks() <= kept_blocks {
                arenas.keep(arena);
            }
            (done, start.elapsed())
        };
        let (done, time) = if let Some(cores) = &self.cores {
            let core = Arc::clone(cores).acquire_owned().await;
            let elsewhere = tokio::task::spawn_blocking(move || {
                // Until the end of the work, even if the request is gone.
                let _core = core;
                measured()
            });
            elsewhere.await.map_err(|_| Failure::Defect("hashing panicked".to_owned()))?
        } else {
            measured()
        };
        telemetry::hashed(time);
        done
    }
}

/// Returns whether `hash` differs in form from a new hash with the `wanted` parameters.
fn is_outdated(hash: &PasswordHash, wanted: &Params) -> bool {
    let current = Function::Argon2(Algorithm::Argon2id, Version::V0x13, wanted.clone());
    match hash.form() {
        Form::Phc { function, .. } => **function != current,
        Form::Bcrypt => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::domain::PasswordPolicy;

    pub(super) fn hasher(memory: &'static str) -> PasswordHasher {
        hasher_among(memory, "1")
    }

    /// A hasher of a process with so many requests at a time.
    fn hasher_among(memory: &'static str, requests: &'static str) -> PasswordHasher {
        let settings = Settings::new(move |variable| match variable {
            "ARGON2_MEMORY_KIB" => Some(memory.to_owned()),
            "AWS_LAMBDA_MAX_CONCURRENCY" => Some(requests.to_owned()),
            _ => None,
        });
        PasswordHasher::from_settings(&settings).unwrap()
    }

    pub(super) fn password(text: &str) -> Password {
        Password::parse(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_new_hash_is_argon2id_with_the_deployment_s_parameters() {
        let policy = PasswordPolicy::new(1, None);
        let new_password = policy.parse("Password1234!".to_owned(), None).unwrap();
        let approved = policy.check_addresses(new_password, &[]).unwrap().approve();
        let hash = hasher("19456").hash(&approved).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_and_outdated() {
        let hash = hasher("128").rehash(&password("Password1234!")).await.unwrap();
        for (memory, outdated) in [("128", false), ("256", true)] {
            let hasher = hasher(memory);
            let right = hasher.verify(&password("Password1234!"), Some(&hash)).await;
            assert_eq!(right, Ok(Verification::Correct { outdated }));
            assert_eq!(
                hasher.verify(&password("password1234!"), Some(&hash)).await,
                Ok(Verification::Incorrect)
            );
        }
    }

    #[tokio::test]
    async fn known_answers() {
        // Of the reference implementation's tests: "password" with the salt "somesalt".
        for text in [
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
            "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        ] {
            let right =
                hasher("128").verify(&password("password"), PasswordHash::parse(text).ok().as_ref()).await;
            assert_eq!(right, Ok(Verification::Correct { outdated: true }), "{text}");
        }
    }

    /// Read as a debugger would.
    #[tokio::test]
    async fn kept_memory_is_wiped() {
        // More than anything else here has.
        let (kib, hasher) = (48 * 1024, hasher("49152"));
        assert_eq!(hasher.verify(&password("Password1234!"), None).await, Ok(Verification::Incorrect));
        let (maps, memory) =
            (fs::read_to_string("/proc/self/smaps").unwrap(), File::open("/proc/self/mem").unwrap());
        let (mut range, mut wiped) = (String::new(), 0);
        for line in maps.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [addresses, "rw-p", ..] => addresses.clone_into(&mut range),
                ["Rss:", resident, "kB"] if resident.parse::<usize>().unwrap() >= kib => {
                    let (start, end) = range.split_once('-').unwrap();
                    let address = |hex| usize::from_str_radix(hex, 16).unwrap();
                    let mut mapped = vec![1; address(end) - address(start)];
                    memory.read_exact_at(&mut mapped, address(start) as u64).unwrap();
                    wiped += mapped.chunks(1024).filter(|block| block.iter().all(|&byte| byte == 0)).count();
                }
                _ => {}
            }
        }
        assert!(wiped >= kib, "{wiped} KiB of {kib}");
    }

    #[tokio::test]
    async fn memory_is_kept_for_each_core_and_none_that_only_a_stored_hash_needed() {
        let hasher = hasher_among("128", "16");
        let kept = || hasher.arenas.0.lock().unwrap().iter().map(Hasher::reserved_blocks).collect::<Vec<_>>();
        let (cores, password) =
            (hasher.cores.as_ref().unwrap().available_permits(), password("Password1234!"));
        futures_util::future::join_all((0..3 * cores).map(|_| hasher.verify(&password, None))).await;
        assert!(
            (1..=cores).contains(&kept().len()) && kept().iter().all(|&blocks| blocks == 128),
            "{:?}",
            kept()
        );

        let larger = PasswordHash::parse(
            "$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        );
        let (before, verdict) = (kept().len(), hasher.verify(&password, larger.ok().as_ref()).await);
        assert_eq!((verdict, kept().len()), (Ok(Verification::Incorrect), before - 1));
    }

    #[tokio::test]
    async fn without_a_hash_every_password_is_wrong() {
        assert_eq!(hasher("128").verify(&password("Password1234!"), None).await, Ok(Verification::Incorrect));
    }
}
