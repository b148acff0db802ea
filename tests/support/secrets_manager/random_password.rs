//! The generator of random passwords.

use rand::rngs::SysRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, rand_core::UnwrapErr};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, invalid_parameter};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "these are the request's fields")]
pub(super) struct GetRandomPassword {
    password_length: usize,
    exclude_characters: String,
    exclude_lowercase: bool,
    exclude_uppercase: bool,
    exclude_numbers: bool,
    exclude_punctuation: bool,
    include_space: bool,
    require_each_included_type: bool,
}

impl Default for GetRandomPassword {
    fn default() -> Self {
        Self {
            password_length: 32,
            exclude_characters: String::new(),
            exclude_lowercase: false,
            exclude_uppercase: false,
            exclude_numbers: false,
            exclude_punctuation: false,
            include_space: false,
            require_each_included_type: true,
        }
    }
}

pub(super) fn random_password(request: &GetRandomPassword) -> Result<Value, Refusal> {
    let kinds: Vec<Vec<char>> = [
        (!request.exclude_lowercase, "abcdefghijklmnopqrstuvwxyz"),
        (!request.exclude_uppercase, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (!request.exclude_numbers, "0123456789"),
        (!request.exclude_punctuation, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        (request.include_space, " "),
    ]
    .into_iter()
    .filter(|(included, _)| *included)
    .map(|(_, kind)| kind.chars().filter(|char| !request.exclude_characters.contains(*char)).collect())
    .filter(|kind: &Vec<char>| !kind.is_empty())
    .collect();
    let required: &[Vec<char>] = if request.require_each_included_type { &kinds } else { &[] };
    let all: Vec<char> = kinds.concat();
    if !(1..=4096).contains(&request.password_length)
        || request.password_length < required.len()
        || all.is_empty()
    {
        return Err(invalid_parameter("No password of this length and kind is possible."));
    }
    let mut random = UnwrapErr(SysRng);
    // Each required kind gets a random place of its own. Any character may stand in the others.
    let mut password: Vec<char> =
        (0..request.password_length).map(|_| *all.choose(&mut random).unwrap_or(&' ')).collect();
    let mut places: Vec<usize> = (0..password.len()).collect();
    for kind in required {
        let place = places.swap_remove(random.random_range(0..places.len()));
        password[place] = *kind.choose(&mut random).unwrap_or(&' ');
    }
    Ok(json!({"RandomPassword": password.into_iter().collect::<String>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_password_has_every_kind_of_character_that_is_not_excluded() {
        let request = GetRandomPassword {
            password_length: 4,
            exclude_punctuation: true,
            exclude_characters: "02468".to_owned(),
            include_space: true,
            ..GetRandomPassword::default()
        };
        let answer = random_password(&request).unwrap();
        let password = answer["RandomPassword"].as_str().unwrap();
        assert_eq!(password.chars().count(), 4);
        for kind in
            [char::is_lowercase, char::is_uppercase, |char| "13579".contains(char), |char| char == ' ']
        {
            assert_eq!(password.chars().filter(|char| kind(*char)).count(), 1, "{password:?}");
        }
        let impossible = GetRandomPassword { password_length: 3, ..request };
        assert_eq!(random_password(&impossible).unwrap_err().0, "InvalidParameterException");
    }
}
