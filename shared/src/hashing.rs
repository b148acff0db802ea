//! Hashing and verifying passwords: Argon2id for every new hash, and the imported forms until their user signs in.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Instant;

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use argon2::password_hash::phc::{self, Output, Salt};
use argon2::password_hash::{self, Error};
use argon2::{Algorithm, Params, Version};
use argon2_rust::params::{Memory, TagLen};
use argon2_rust::{Argon2, Hasher};
use tokio::sync::Semaphore;

use crate::config::{ConfigError, Environment};
use crate::domain::{Form, Function, NewPassword, Password, PasswordHash};
use crate::error::Failure;
use crate::telemetry;

/// bcrypt looks at no more of a password, and repeats a shorter one, with a NUL after it, up to this length. What
/// is longer or has a NUL is therefore wrong, or else different passwords would be right; its user has to reset it.
const BCRYPT_MAX_BYTES: usize = 72;

/// Hashes passwords with the deployment's Argon2id parameters.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    params: Params,
    /// What is verified for a username that nobody has, so that this takes the same time.
    decoy: Arc<PasswordHash>,
    /// Where requests share this process. A hash occupies a core and its memory: more at a time than there are cores
    /// would be no faster, only larger.
    cores: Option<Arc<Semaphore>>,
    arenas: Arenas,
}

/// The memory that Argon2 works in, kept because the kernel takes as long to provide fresh pages as Argon2 to fill
/// them, and because the allocator keeps what each thread gave back.
#[derive(Clone, Default)]
struct Arenas(Arc<Mutex<Vec<Hasher>>>);

/// What verifying a password found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The password is right.
    Right {
        /// Whether the stored hash is of another form than new ones are.
        outdated: bool,
    },
    /// The password is wrong, or there is no hash to compare it with.
    Wrong,
}

impl PasswordHasher {
    /// A hasher with the parameters of `ARGON2_MEMORY_KIB`, `ARGON2_ITERATIONS` and `ARGON2_PARALLELISM`. Their
    /// defaults are OWASP's (Password Storage Cheat Sheet): m=19456 KiB, t=2, p=1.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let memory = environment.number("ARGON2_MEMORY_KIB", 19_456, 8 * 16..=256 * 1024)?;
        let iterations = environment.number("ARGON2_ITERATIONS", 2, 1..=16)?;
        let parallelism = environment.number("ARGON2_PARALLELISM", 1, 1..=16)?;
        let params = Params::new(memory, iterations, parallelism, Some(Params::DEFAULT_OUTPUT_LEN))
            .map_err(|error| ConfigError::new("ARGON2_MEMORY_KIB", &format!("is refused: {error}")))?;
        let decoy = decoy(&params)
            .ok_or_else(|| ConfigError::new("ARGON2_MEMORY_KIB", "is out of the bounds of stored hashes"))?;
        // Set on Managed Instances; elsewhere there is one request at a time.
        let is_shared = environment.number("AWS_LAMBDA_MAX_CONCURRENCY", 1, 0..=u32::MAX)? > 1;
        let cores = || Arc::new(Semaphore::new(available_parallelism().map_or(1, Into::into)));
        let cores = is_shared.then(cores);
        Ok(Self { params, decoy: Arc::new(decoy), cores, arenas: Arenas::default() })
    }

    /// Hashes a new password with a salt from the operating system's random source.
    pub async fn hash(&self, password: &NewPassword) -> Result<PasswordHash, Failure> {
        self.hash_password(password.as_password()).await
    }

    /// Hashes a password that was found right, to replace an outdated hash of it.
    pub async fn rehash(&self, password: &Password) -> Result<PasswordHash, Failure> {
        self.hash_password(password).await
    }

    /// Compares `password` with `hash`, and with a decoy where there is none.
    pub async fn verify(&self, password: &Password, hash: Option<&PasswordHash>) -> Result<Verdict, Failure> {
        let stored = hash.unwrap_or(&self.decoy).clone();
        let (password, params) = (password.clone(), self.params.clone());
        self.run(move |arena| {
            let right = is_right(password.expose(), &stored, arena)?;
            let outdated = is_outdated(&stored, &params);
            Ok(if right { Verdict::Right { outdated } } else { Verdict::Wrong })
        })
        .await
    }

    /// Whether `hash` is of another form than new ones are, and is replaced when its user signs in.
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

    /// Runs `work`, on another thread where requests share this process, and measures it.
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

impl Arenas {
    /// One that nobody works in; empty if there is none.
    fn take(&self) -> Hasher {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(new_arena)
    }

    fn keep(&self, arena: Hasher) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
    }
}

impl fmt::Debug for Arenas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Arenas").finish_non_exhaustive()
    }
}

/// The hash of a new password, with a salt from the operating system's random source.
fn hash_argon2id(
    password: &[u8],
    params: &Params,
    arena: &mut Hasher,
) -> password_hash::Result<phc::PasswordHash> {
    let salt = Salt::generate();
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    compute_argon2(Algorithm::Argon2id, Version::V0x13, params, password, &salt, arena, &mut output)?;
    phc(params, salt, Output::new(&output)?)
}

/// How a hash with the deployment's parameters is written.
fn phc(params: &Params, salt: Salt, output: Output) -> password_hash::Result<phc::PasswordHash> {
    Ok(phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: params.try_into()?,
        salt: Some(salt),
        hash: Some(output),
    })
}

/// Returns whether `password` is the one that `stored` was made of.
fn is_right(password: &[u8], stored: &PasswordHash, arena: &mut Hasher) -> Result<bool, Failure> {
    match stored.form() {
        Form::Phc { function, salt, digest } => {
            let mut computed = [0; Output::MAX_LENGTH];
            let computed = computed.get_mut(..digest.len()).unwrap_or_default();
            compute(function, password, salt, arena, computed).map_err(|error| unusable(&error))?;
            // Outputs are compared in constant time.
            Output::new(computed).map(|computed| computed == *digest).map_err(|error| unusable(&error))
        }
        Form::Bcrypt => is_right_for_bcrypt(password, stored),
    }
}

/// Fills `digest` with what `function` makes of a password.
fn compute(
    function: &Function,
    password: &[u8],
    salt: &Salt,
    arena: &mut Hasher,
    digest: &mut [u8],
) -> password_hash::Result<()> {
    match function {
        Function::Argon2(algorithm, version, params) => {
            compute_argon2(*algorithm, *version, params, password, salt, arena, digest)
        }
        Function::Pbkdf2 { algorithm, rounds } => {
            let params = pbkdf2::Params::new_with_output_len(*rounds, digest.len())?;
            pbkdf2::pbkdf2_hmac_with_params(password, salt, *algorithm, params, digest);
            Ok(())
        }
        Function::Scrypt(params) => {
            scrypt::scrypt(password, salt, params, digest).map_err(|_| Error::OutputSize)
        }
        Function::FirebaseScrypt(params) => {
            let mut key = [0; 32];
            scrypt::scrypt(password, salt, params, &mut key).map_err(|_| Error::OutputSize)?;
            let cipher = Aes256::new(&key.into());
            for (counter, chunk) in (0_u128..).zip(digest.chunks_mut(16)) {
                let mut block = counter.to_be_bytes().into();
                cipher.encrypt_block(&mut block);
                chunk.iter_mut().zip(block).for_each(|(byte, of_stream)| *byte = of_stream);
            }
            Ok(())
        }
    }
}

/// An arena that has no memory yet.
fn new_arena() -> Hasher {
    Argon2::new(argon2_rust::Algorithm::Argon2id, argon2_rust::Version::V0x13, argon2_rust::Params::DEFAULT)
        .hasher()
}

/// Fills `output` with Argon2's digest, computed in `arena`, which grows if needed. Its memory is zeroed afterwards
/// (feature `zeroize-memory`).
fn compute_argon2(
    algorithm: Algorithm,
    version: Version,
    params: &Params,
    password: &[u8],
    salt: &Salt,
    arena: &mut Hasher,
    output: &mut [u8],
) -> password_hash::Result<()> {
    let algorithm = match algorithm {
        Algorithm::Argon2d => argon2_rust::Algorithm::Argon2d,
        Algorithm::Argon2i => argon2_rust::Algorithm::Argon2i,
        Algorithm::Argon2id => argon2_rust::Algorithm::Argon2id,
    };
    let version = match version {
        Version::V0x10 => argon2_rust::Version::V0x10,
        Version::V0x13 => argon2_rust::Version::V0x13,
    };
    let costs = argon2_rust::Params::builder()
        .memory(Memory::kib(params.m_cost().into()))
        .passes(params.t_cost())
        .lanes(params.p_cost())
        .tag_len(TagLen::bytes(output.len() as u64))
        .build()
        .map_err(|_| Error::ParamsInvalid)?;
    arena.set_argon2(Argon2::new(algorithm, version, costs));
    arena.hash_into_with_ad(password, salt, &[], params.data(), output).map_err(|_| Error::Internal)
}

fn unusable(error: &dyn fmt::Display) -> Failure {
    Failure::Defect(format!("a stored hash: {error}"))
}

/// Whether `hash` is not what a new hash with the `wanted` parameters would be.
fn is_outdated(hash: &PasswordHash, wanted: &Params) -> bool {
    let current = Function::Argon2(Algorithm::Argon2id, Version::V0x13, wanted.clone());
    match hash.form() {
        Form::Phc { function, .. } => **function != current,
        Form::Bcrypt => true,
    }
}

fn is_right_for_bcrypt(password: &[u8], stored: &PasswordHash) -> Result<bool, Failure> {
    let right = bcrypt::verify(password, stored.expose()).map_err(|error| unusable(&error))?;
    // Compared all the same, so that the time it takes does not tell.
    Ok(right && password.len() <= BCRYPT_MAX_BYTES && !password.contains(&0))
}

/// A hash of the wanted cost that no password has: finding one would be to invert Argon2.
fn decoy(params: &Params) -> Option<PasswordHash> {
    let salt = Salt::new(&[0; 16]).ok()?;
    let output = Output::new(&[0; Params::DEFAULT_OUTPUT_LEN]).ok()?;
    PasswordHash::parse(&phc(params, salt, output).ok()?.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use argon2::password_hash::{PasswordHasher as _, PasswordVerifier};
    use proptest::prelude::*;

    use super::*;
    use crate::domain::PasswordPolicy;

    fn hasher(memory: &'static str) -> PasswordHasher {
        hasher_among(memory, "1")
    }

    /// A hasher of a process with so many requests at a time.
    fn hasher_among(memory: &'static str, requests: &'static str) -> PasswordHasher {
        let environment = Environment::new(move |variable| match variable {
            "ARGON2_MEMORY_KIB" => Some(memory.to_owned()),
            "AWS_LAMBDA_MAX_CONCURRENCY" => Some(requests.to_owned()),
            _ => None,
        });
        PasswordHasher::from_environment(&environment).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::parse(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_new_hash_is_argon2id_with_the_deployment_s_parameters() {
        let new_password = PasswordPolicy::new(1).parse("Password1234!".to_owned()).unwrap();
        let hash = hasher("19456").hash(&new_password).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_and_outdated() {
        let hash = hasher("128").rehash(&password("Password1234!")).await.unwrap();
        for (memory, outdated) in [("128", false), ("256", true)] {
            let hasher = hasher(memory);
            let right = hasher.verify(&password("Password1234!"), Some(&hash)).await;
            assert_eq!(right, Ok(Verdict::Right { outdated }));
            assert_eq!(hasher.verify(&password("password1234!"), Some(&hash)).await, Ok(Verdict::Wrong));
        }
    }

    proptest! {
        /// Another implementation, in fresh memory, is the oracle.
        #[test]
        fn hashes_in_kept_memory_are_those_of_another_implementation(
            hashes in prop::collection::vec(
                (
                    any::<[u8; 12]>(),
                    prop::sample::select(vec![Algorithm::Argon2id, Algorithm::Argon2i, Algorithm::Argon2d]),
                    prop::sample::select(vec![Version::V0x10, Version::V0x13]),
                    (8..64_u32, 1..4_u32, 1..4_u32),
                ),
                1..4,
            ),
        ) {
            let arena = &mut new_arena();
            for (password, algorithm, version, (memory, iterations, lanes)) in hashes {
                let length = Some(Params::DEFAULT_OUTPUT_LEN);
                let params = Params::new(memory * lanes, iterations, lanes, length).unwrap();
                let argon2 = argon2::Argon2::new(algorithm, version, params.clone());
                let hash = argon2.hash_password(&password).unwrap();
                let hash = PasswordHash::parse(&hash.to_string()).unwrap();
                prop_assert_eq!(is_right(&password, &hash, arena), Ok(true));
                prop_assert_eq!(is_right(&password[1..], &hash, arena), Ok(false));
                let hash = hash_argon2id(&password, &params, arena).unwrap();
                prop_assert_eq!(argon2::Argon2::default().verify_password(&password, &hash), Ok(()));
                prop_assert!(!is_outdated(&PasswordHash::parse(&hash.to_string()).unwrap(), &params));
            }
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
            assert_eq!(right, Ok(Verdict::Right { outdated: true }), "{text}");
        }
    }

    /// Read as a debugger would.
    #[tokio::test]
    async fn kept_memory_is_wiped() {
        // More than anything else here has.
        let (kib, hasher) = (48 * 1024, hasher("49152"));
        assert_eq!(hasher.verify(&password("Password1234!"), None).await, Ok(Verdict::Wrong));
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
        assert_eq!((verdict, kept().len()), (Ok(Verdict::Wrong), before - 1));
    }

    /// Asserts that "Password1234!" is right for the hash, and nothing else is.
    async fn assert_right(text: &str) {
        let hash = PasswordHash::parse(text).unwrap();
        let right = hasher("128").verify(&password("Password1234!"), Some(&hash)).await;
        assert_eq!(right, Ok(Verdict::Right { outdated: true }), "{text}");
        let wrong = hasher("128").verify(&password("Password1234?"), Some(&hash)).await;
        assert_eq!(wrong, Ok(Verdict::Wrong), "{text}");
    }

    #[tokio::test]
    async fn argon2_is_verified_as_the_reference_implementation_wrote_it() {
        // By the C library in argon2-cffi 25.1 (`hash_secret`), the hash without a version by taking "v=16$" out.
        for text in [
            "$argon2i$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$ilQnMxWvCI1iEl4imD/vPxsU7Cqd+vS7TtUa77Aj+fY",
            "$argon2i$v=16$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$ilQnMxWvCI1iEl4imD/vPxsU7Cqd+vS7TtUa77Aj+fY",
            "$argon2d$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$gMnsLEvgoBn+IZ92U5YrRqw0Ho2uSHQ8m8amY+7sxFo",
            "$argon2id$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$Q+CM/5vPZ1460Pw1eaSqaCX3Q8WzyKgT27K7ZdsMY8Q",
            "$argon2i$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$/6V1Q8WPzDs5TPHJscvXb/sfq9jtQozDNizXcK8YqBU",
            "$argon2d$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$laTmrn29JesM5sVN/+nfNbCav16qWGSUlUvZzS9MYn8",
            "$argon2id$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$wScarWYyO7EIsnms8efe3TfTJPw79PBqtFG7tRfNaGs",
            "$argon2id$v=19$m=1024,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA\
             $yldgdnpJM7+kXoe6cn8pgxNfujlpCJedQ1chO06QZ9bXPKzxMyL3QB0gd0B/eVytXba/DBfkdNCcrUoec32gUQ",
            "$argon2id$v=19$m=1024,t=2,p=2$c2FsdHNhbHQ$SfcG/qv6rlyMxA",
            // By npm's argon2 0.45, with `associatedData`.
            "$argon2id$v=19$m=1024,p=1,t=2,data=ZGF0YQ$c2FsdHNhbHRzYWx0c2FsdA\
             $EpMAu0NGFXlSNb4ltADX6r4N5LhNknKlMusWtPqadN4",
        ] {
            assert_right(text).await;
        }
    }

    #[tokio::test]
    async fn pbkdf2_and_scrypt_digests_are_verified_at_their_own_length() {
        // By Python's hashlib (OpenSSL) with the salt "saltsaltsaltsalt".
        for (parameters, digests) in [
            (
                "$pbkdf2-sha256$i=1000",
                [
                    "1i9i+8JStzMY8Q",
                    "1i9i+8JStzMY8RxTtvKpOO3qJzo",
                    "1i9i+8JStzMY8RxTtvKpOO3qJzpCjlfSaPhy1R7i1Uc",
                    "1i9i+8JStzMY8RxTtvKpOO3qJzpCjlfSaPhy1R7i1UfB3wPgLkC09NN2OXvMdaslpilyzPTEDeknrIbRzFy0ZQ",
                ],
            ),
            (
                "$pbkdf2-sha512$i=1000",
                [
                    "rN0RvsPHLrX+Sg",
                    "rN0RvsPHLrX+Sm6SRXLV8ueoAPM",
                    "rN0RvsPHLrX+Sm6SRXLV8ueoAPMTOre496XyUkZkuw0",
                    "rN0RvsPHLrX+Sm6SRXLV8ueoAPMTOre496XyUkZkuw2i95IjajYDzc8ke101vIs7DE78VoSEQfkNLrhK/FNecQ",
                ],
            ),
            (
                "$scrypt$ln=4,r=8,p=2",
                [
                    "EwKlVhZnoO9yRg",
                    "EwKlVhZnoO9yRsYfInVs8qa6qWU",
                    "EwKlVhZnoO9yRsYfInVs8qa6qWVKcqTtqtOXriX8LzA",
                    "EwKlVhZnoO9yRsYfInVs8qa6qWVKcqTtqtOXriX8LzBhsaVUVW7Efu3jfK8zFZ67RBR5YM9Q0jSmO2+kguYlYQ",
                ],
            ),
        ] {
            for (digest, length) in digests.into_iter().zip([10, 20, 32, 64]) {
                assert_right(&format!("{parameters}$c2FsdHNhbHRzYWx0c2FsdA${digest}")).await;
                assert_right(&format!("{parameters},l={length}$c2FsdHNhbHRzYWx0c2FsdA${digest}")).await;
            }
        }
    }

    #[tokio::test]
    async fn firebase_scrypt_is_verified() {
        // Firebase's own example (github.com/firebase/scrypt, README), its hash XORed with its signer key.
        let text = "$firebase-scrypt$ln=14,r=8,p=1$42xEC+ixf3L2lwc$\
            GjH2+Jz+dglLj5NuFkZHgBvZnv8Z8VZE5sdIgEAbIgeXy+ZfSpJLu1A++pZcpx0OhX41mDwvu2Olmp+PnfLfyQ";
        let hash = PasswordHash::parse(text).unwrap();
        let right = hasher("128").verify(&password("user1password"), Some(&hash)).await;
        assert_eq!(right, Ok(Verdict::Right { outdated: true }));
        assert_eq!(hasher("128").verify(&password("user2password"), Some(&hash)).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn bcrypt_is_verified_in_all_its_spellings() {
        // Of the test vectors of the bcrypt crate: "hunter2" at cost 4.
        let tail = bcrypt::hash_with_salt("hunter2", 4, [7; 16]).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY] {
            let hash = PasswordHash::parse(&tail.format_for_version(version)).unwrap();
            let right = hasher("128").verify(&password("hunter2"), Some(&hash)).await;
            assert_eq!(right, Ok(Verdict::Right { outdated: true }));
            assert_eq!(hasher("128").verify(&password("hunter3"), Some(&hash)).await, Ok(Verdict::Wrong));
        }
    }

    #[tokio::test]
    async fn bcrypt_takes_no_other_password_for_the_right_one() {
        let longest = "a".repeat(72);
        for (right, wrong) in [("hunter2", "hunter2\0hunter2"), (&longest, &format!("{longest}a"))] {
            let hash = bcrypt::hash_with_salt(right, 4, [7; 16]).unwrap();
            let hash = PasswordHash::parse(&hash.to_string()).unwrap();
            let verdict = hasher("128").verify(&password(right), Some(&hash)).await;
            assert_eq!(verdict, Ok(Verdict::Right { outdated: true }));
            assert_eq!(hasher("128").verify(&password(wrong), Some(&hash)).await, Ok(Verdict::Wrong));
        }
    }

    #[tokio::test]
    async fn without_a_hash_every_password_is_wrong() {
        assert_eq!(hasher("128").verify(&password("Password1234!"), None).await, Ok(Verdict::Wrong));
    }
}
