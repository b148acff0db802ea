//! The files that pages load, and their names.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::brand::{BrandColor, Logo};

/// The modules of the script, each after those that it imports. They are served as one, so that a page loads one file.
const MODULES: [&str; 8] = [
    include_str!("../assets/script/texts.js"),
    include_str!("../assets/script/service.js"),
    include_str!("../assets/script/tokens.js"),
    include_str!("../assets/script/views.js"),
    include_str!("../assets/script/sign_in.js"),
    include_str!("../assets/script/forgot_password.js"),
    include_str!("../assets/script/signed_in.js"),
    include_str!("../assets/script/main.js"),
];

/// The files that pages load. Their names contain a hash of their content, so caches may keep them for good.
#[derive(Debug)]
pub(crate) struct Assets {
    pub(crate) style: Asset,
    pub(crate) script: Asset,
    pub(crate) logo: Asset,
}

/// A file with its name.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) name: String,
    pub(crate) resource: Resource,
}

/// A text that is compressed at most once, when a client first accepts that.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) content_type: &'static str,
    text: String,
    gzip: OnceLock<Option<Vec<u8>>>,
}

impl Assets {
    pub(crate) fn new(color: BrandColor, logo: &Logo) -> Self {
        let style = format!("{}{}", color.style(), include_str!("../assets/style.css"));
        Self {
            style: Asset::new("style", "css", "text/css; charset=utf-8", style),
            script: Asset::new("script", "js", "text/javascript; charset=utf-8", joined(&MODULES)),
            logo: Asset::new("logo", "svg", "image/svg+xml", logo.svg(color)),
        }
    }

    /// Finds the file of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Asset> {
        [&self.style, &self.script, &self.logo].into_iter().find(|asset| asset.name == name)
    }
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, text: String) -> Self {
        let resource = Resource::new(content_type, text);
        Self { name: format!("{stem}.{}.{extension}", resource.hash()), resource }
    }
}

impl Resource {
    pub(crate) fn new(content_type: &'static str, text: String) -> Self {
        Self { content_type, text, gzip: OnceLock::new() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The compressed text; `None` if it cannot be compressed.
    pub(crate) fn gzip(&self) -> Option<&[u8]> {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(self.text.as_bytes()).and_then(|()| encoder.finish()).ok()
        };
        self.gzip.get_or_init(compress).as_deref()
    }

    /// The first 64 bits of the SHA-256 of the text, in hexadecimal digits.
    pub(crate) fn hash(&self) -> String {
        Sha256::digest(&self.text).iter().take(8).fold(String::new(), |mut hash, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        })
    }
}

/// One module that does what `modules` do. Their names at the top level differ, each import is one line, and no comment
/// that takes up a line is served.
fn joined(modules: &[&str]) -> String {
    let lines = modules.iter().flat_map(|module| module.lines());
    let served = lines.filter(|line| !line.starts_with("import ") && !line.trim_start().starts_with("//"));
    served.fold(String::new(), |mut script, line| {
        script.push_str(line.strip_prefix("export ").unwrap_or(line));
        script.push('\n');
        script
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_become_one_without_imports_exports_and_comments() {
        let one = "// The first.\nexport function a() {\n  // Why.\n  return 1; // import\n}\n";
        let two = "import { a } from './a.js';\nexport const b = a();\n";
        assert_eq!(joined(&[one, two]), "function a() {\n  return 1; // import\n}\nconst b = a();\n");
    }

    /// A name twice would be a syntax error of the script as a whole.
    #[test]
    fn the_names_at_the_top_level_of_the_modules_differ() {
        let mut names: Vec<&str> = Vec::new();
        for line in MODULES.iter().flat_map(|module| module.lines()) {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let line = line.strip_prefix("async ").unwrap_or(line);
            let declared =
                ["const ", "let ", "function ", "class "].iter().find_map(|word| line.strip_prefix(word));
            if let Some(declared) = declared {
                let end =
                    declared.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
                names.push(&declared[..end.unwrap_or(declared.len())]);
            }
        }
        assert!(names.len() > 20, "{names:?}");
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
