use std::fmt;

use ::argon2::password_hash::phc::{Output, Salt};
use ::argon2::password_hash::{self, Error};
use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use argon2_rust::Hasher;

use super::argon2::compute_argon2;
use crate::domain::{Form, Function, PasswordHash};
use crate::failure::Failure;

/// bcrypt reads no more of a password, and repeats a shorter one, with a NUL after it, up to this length. A password
/// that is longer or has a NUL is therefore wrong, or else different passwords would be right; its user has to reset
/// it.
const BCRYPT_MAX_BYTES: usize = 72;

/// Returns whether `password` is the one that `stored` was made of.
pub(super) fn is_right(password: &[u8], stored: &PasswordHash, arena: &mut Hasher) -> Result<bool, Failure> {
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

/// Fills `digest` with the digest of a password by `function`.
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

fn is_right_for_bcrypt(password: &[u8], stored: &PasswordHash) -> Result<bool, Failure> {
    let right = bcrypt::verify(password, stored.expose()).map_err(|error| unusable(&error))?;
    // Compared all the same, so that the time it takes does not tell.
    Ok(right && password.len() <= BCRYPT_MAX_BYTES && !password.contains(&0))
}

fn unusable(error: &dyn fmt::Display) -> Failure {
    Failure::Defect(format!("a stored hash: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::Verification;
    use super::super::tests::{hasher, password};
    use super::*;

    /// Asserts that "Password1234!" is right for the hash, and nothing else is.
    async fn assert_right(text: &str) {
        let hash = PasswordHash::parse(text).unwrap();
        let right = hasher("128").verify(&password("Password1234!"), Some(&hash)).await;
        assert_eq!(right, Ok(Verification::Correct { outdated: true }), "{text}");
        let wrong = hasher("128").verify(&password("Password1234?"), Some(&hash)).await;
        assert_eq!(wrong, Ok(Verification::Incorrect), "{text}");
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
        assert_eq!(right, Ok(Verification::Correct { outdated: true }));
        assert_eq!(
            hasher("128").verify(&password("user2password"), Some(&hash)).await,
            Ok(Verification::Incorrect)
        );
    }

    #[tokio::test]
    async fn bcrypt_is_verified_in_all_its_spellings() {
        // Of the test vectors of the bcrypt crate: "hunter2" at cost 4.
        let tail = bcrypt::hash_with_salt("hunter2", 4, [7; 16]).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY] {
            let hash = PasswordHash::parse(&tail.format_for_version(version)).unwrap();
            let right = hasher("128").verify(&password("hunter2"), Some(&hash)).await;
            assert_eq!(right, Ok(Verification::Correct { outdated: true }));
            assert_eq!(
                hasher("128").verify(&password("hunter3"), Some(&hash)).await,
                Ok(Verification::Incorrect)
            );
        }
    }

    #[tokio::test]
    async fn bcrypt_takes_no_other_password_for_the_right_one() {
        let longest = "a".repeat(72);
        for (right, wrong) in [("hunter2", "hunter2\0hunter2"), (&longest, &format!("{longest}a"))] {
            let hash = bcrypt::hash_with_salt(right, 4, [7; 16]).unwrap();
            let hash = PasswordHash::parse(&hash.to_string()).unwrap();
            let verification = hasher("128").verify(&password(right), Some(&hash)).await;
            assert_eq!(verification, Ok(Verification::Correct { outdated: true }));
            assert_eq!(
                hasher("128").verify(&password(wrong), Some(&hash)).await,
                Ok(Verification::Incorrect)
            );
        }
    }
}
