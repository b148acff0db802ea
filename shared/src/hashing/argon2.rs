use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::argon2::password_hash::phc::{self, Output, Salt};
use ::argon2::password_hash::{self, Error};
use ::argon2::{Algorithm, Params, Version};
use argon2_rust::params::{Memory, TagLen};
use argon2_rust::{Argon2, Hasher};

use crate::domain::PasswordHash;

/// The memory that Argon2 works in, kept because the kernel takes as long to provide fresh pages as Argon2 to fill
/// them, and because the allocator keeps the memory that each thread freed.
#[derive(Clone, Default)]
pub(super) struct Arenas(pub(super) Arc<Mutex<Vec<Hasher>>>);

impl Arenas {
    /// Takes an arena that is not in use, or a new one.
    pub(super) fn take(&self) -> Hasher {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(new_arena)
    }

    /// Keeps an arena for later.
    pub(super) fn keep(&self, arena: Hasher) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
    }
}

impl fmt::Debug for Arenas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Arenas").finish_non_exhaustive()
    }
}

/// An arena that has no memory yet.
pub(super) fn new_arena() -> Hasher {
    Argon2::new(argon2_rust::Algorithm::Argon2id, argon2_rust::Version::V0x13, argon2_rust::Params::DEFAULT)
        .hasher()
}

/// The hash of a new password, with a salt from the operating system's random source.
pub(super) fn hash_argon2id(
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

/// Fills `output` with Argon2's digest, computed in `arena`, which grows if needed. Its memory is zeroed afterwards
/// (feature `zeroize-memory`).
pub(super) fn compute_argon2(
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

/// A hash of the wanted cost that no password has: finding one would be to invert Argon2.
pub(super) fn decoy(params: &Params) -> Option<PasswordHash> {
    let salt = Salt::new(&[0; 16]).ok()?;
    let output = Output::new(&[0; Params::DEFAULT_OUTPUT_LEN]).ok()?;
    PasswordHash::parse(&phc(params, salt, output).ok()?.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use ::argon2::password_hash::{PasswordHasher as _, PasswordVerifier};
    use proptest::prelude::*;

    use super::super::{is_outdated, is_right};
    use super::*;

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
}
