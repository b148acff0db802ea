//! The texts of the pages, one file for each language in `texts/`.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::domain::PasswordPolicy;

const FILES: &[&str] = include!(concat!(env!("OUT_DIR"), "/texts.rs"));

/// The language of clients that want none of the others.
const DEFAULT: &str = "en";

/// All languages.
#[derive(Debug)]
pub(crate) struct Languages(Vec<Texts>);

/// The texts in one language.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Texts {
    /// The language (ISO 639), as in `lang` and `Accept-Language`.
    pub(crate) language: String,
    /// The name of the language in itself.
    pub(crate) name: String,
    /// The texts of the pages, by their keys.
    page: BTreeMap<String, String>,
    /// The texts that the script shows, by their keys.
    pub(crate) script: BTreeMap<String, String>,
}

impl Languages {
    /// Reads the files, and fills in the name of the product and the limits of new passwords.
    pub(crate) fn new(product: &str, min_chars: u32) -> Result<Self, serde_json::Error> {
        let fill = |text: &mut String| {
            // The name last, because it could hold a placeholder.
            *text = text
                .replace("{min}", &min_chars.to_string())
                .replace("{max}", &PasswordPolicy::MAX_CHARS.to_string())
                .replace("{product}", product);
        };
        let mut languages: Vec<Texts> =
            FILES.iter().map(|file| serde_json::from_str(file)).collect::<Result<_, _>>()?;
        for texts in &mut languages {
            texts.page.values_mut().chain(texts.script.values_mut()).for_each(fill);
        }
        Ok(Self(languages))
    }

    /// The languages, in the order of their codes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Texts> {
        self.0.iter()
    }

    /// The codes of the languages.
    pub(crate) fn codes(&self) -> Vec<&str> {
        self.iter().map(|texts| &*texts.language).collect()
    }

    /// The texts of the language with this index.
    pub(crate) fn get(&self, index: usize) -> Option<&Texts> {
        self.0.get(index)
    }

    /// The index of the language of clients that want none of the others.
    pub(crate) fn default_index(&self) -> usize {
        self.0.iter().position(|texts| texts.language == DEFAULT).unwrap_or_default()
    }
}

impl Texts {
    /// The text with this key.
    pub(crate) fn page(&self, key: &str) -> Option<&str> {
        self.page.get(key).map(String::as_str)
    }
}
